// Microphone → 16 kHz mono PCM16, in short pieces, each with the number of its first sample.
//
// The service cuts chunks of the length in force out of any pieces. Every length it uses is a multiple of this one, so
// a chunk is full the moment its last sample is heard, also after the length changes in mid-stream.

import { Resampler } from "./resampler.js";

const RATE = 16000;
const PIECE = 512; // samples: 32 ms

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.first = 0;
    this.open();
    this.port.onmessage = ({ data }) => (this.worker = data.worker);
  }

  open() {
    this.pcm = new Int16Array(PIECE);
    this.filled = 0;
    this.energy = 0;
  }

  process([channels]) {
    if (!this.worker || channels.length === 0) return true;
    for (const sample of this.resampler.push(channels[0])) this.add(sample);
    return true;
  }

  add(sample) {
    this.pcm[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
    this.energy += sample * sample;
    if (this.filled === PIECE) this.send();
  }

  send() {
    const { pcm, first, energy } = this;
    this.worker.postMessage({ pcm: pcm.buffer, first, level: Math.sqrt(energy / PIECE) }, [pcm.buffer]);
    this.first += PIECE;
    this.open();
  }
}

registerProcessor("capture", Capture);
