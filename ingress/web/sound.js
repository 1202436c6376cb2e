// The two audio graphs of a live session: microphone → capture worklet; playback worklet → volume → loudspeaker.

import { named } from "./devices.js";

const PLAY_RATE = 16000;
const RESUME_MS = 2000; // without any sound device, AudioContext.resume() may never settle

export class Sound {
  #capture = new AudioContext();
  #playback = new AudioContext({ sampleRate: PLAY_RATE, latencyHint: "interactive" });
  #volume = null;

  /** Starts both graphs; returns the two ports for the worker. */
  async start(stream) {
    const [capture, playback] = [this.#capture, this.#playback];
    await Promise.all([
      capture.audioWorklet.addModule("/static/capture-worklet.js"),
      playback.audioWorklet.addModule("/static/playback-worklet.js"),
      timeBoxed(capture.resume()),
      timeBoxed(playback.resume()),
    ]);
    if (capture.state !== "running") throw named("NoSound"); // its samples are what every time is counted from
    const microphone = new AudioWorkletNode(capture, "capture", { numberOfOutputs: 0 });
    capture.createMediaStreamSource(stream).connect(microphone);
    const speaker = new AudioWorkletNode(playback, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.#volume = playback.createGain();
    speaker.connect(this.#volume).connect(playback.destination);
    return { microphone: portTo(microphone), speaker: portTo(speaker) };
  }

  /** From the worklet to the ear, as far as the browser knows. */
  get latencyMs() {
    return (this.#playback.outputLatency || 0) * 1000;
  }

  /** Silences the loudspeaker only: the player goes on, because pictures follow its position. */
  audible(on) {
    if (this.#volume) this.#volume.gain.value = on ? 1 : 0;
  }

  async close() {
    await Promise.all([this.#capture.close(), this.#playback.close()]);
  }
}

// Gives the worklet one end of a channel and returns the other, so that worker and worklet talk directly.
function portTo(node) {
  const { port1, port2 } = new MessageChannel();
  node.port.postMessage({ worker: port1 }, [port1]);
  return port2;
}

function timeBoxed(promise) {
  return Promise.race([promise, new Promise((done) => setTimeout(done, RESUME_MS))]);
}
