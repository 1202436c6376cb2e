// Plays the jitter buffer and reports where it reads. The context runs at 16 kHz; the browser resamples its output.

import { JitterBuffer } from "./jitter-buffer.js";

const REPORT_EVERY = 2; // quanta: 16 ms at 16 kHz

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer(sampleRate);
    this.quanta = 0;
    this.port.onmessage = ({ data }) => {
      if (data.worker) {
        this.worker = data.worker;
        this.worker.onmessage = (message) => this.hear(message.data);
      }
    };
  }

  hear(message) {
    if (message.clear) {
      this.buffer.clear();
      return;
    }
    const pcm = new Int16Array(message.pcm);
    this.buffer.put(message.at, Float32Array.from(pcm, (value) => value / 32768));
  }

  process(_inputs, [[out]]) {
    this.buffer.pull(out);
    if (this.worker && ++this.quanta % REPORT_EVERY === 0) this.worker.postMessage(this.report());
    return true;
  }

  report() {
    const { position, running, buffered, underruns, gaps, late, jumps, rate, slack } = this.buffer;
    const ms = 1000 / sampleRate;
    return {
      positionUs: position === null ? null : (position * 1e6) / sampleRate,
      running,
      bufferedMs: buffered * ms,
      slackMs: slack * ms,
      underruns,
      gaps,
      late,
      jumps,
      rate,
    };
  }
}

registerProcessor("playback", Playback);
