// What of the camera is sent: frames thinned to the rate in force, and their time on the microphone's clock. Pure.

// Steps that frames may run ahead of the schedule: cameras jitter. The service allows one more, so it thins nothing of
// this page's. No whole number, so that of a camera twice too fast every second frame passes by a margin.
const SLACK = 1.2;

/** Lets through at most `fps` frames a second, evenly, from a camera that is faster. `fps` may change at any time. */
export class Pacer {
  #due = -Infinity;
  fps = 20;

  admit(nowMs) {
    const step = 1000 / this.fps;
    if (nowMs < this.#due - SLACK * step) return false;
    this.#due = Math.max(this.#due, nowMs) + step;
    return true;
  }
}

/**
 * When sample 0 was heard, in the worker's milliseconds. A chunk can be told of late, never early, so the earliest
 * account is the truest; a slow pull forward follows a sound card that runs slower than the computer's clock.
 */
export class CaptureClock {
  #originMs = null;

  /** Takes note that all samples before number `samples` were there at `nowMs`. */
  heard(samples, sampleRate, nowMs) {
    const origin = nowMs - (samples / sampleRate) * 1000;
    if (this.#originMs === null || origin < this.#originMs) this.#originMs = origin;
    else this.#originMs += (origin - this.#originMs) * 0.002;
  }

  get ready() {
    return this.#originMs !== null;
  }

  /** Media time in µs of something captured at `nowMs`. */
  ptsUs(nowMs) {
    return Math.max(0, Math.round((nowMs - this.#originMs) * 1000));
  }

  /** How long ago `ptsUs` was captured, in ms. */
  ageMs(ptsUs, nowMs) {
    return nowMs - this.#originMs - ptsUs / 1000;
  }
}

/** Width and height to send: the camera's aspect, the longer side `size` (0 = as it is), never enlarged, even. */
export function sendSize(width, height, size) {
  const scale = size > 0 ? Math.min(1, size / Math.max(width, height)) : 1;
  return [even(width * scale), even(height * scale)];
}

function even(value) {
  return Math.max(2, 2 * Math.round(value / 2));
}
