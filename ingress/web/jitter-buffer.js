// Sound waits here just long enough to play without gaps. Where it reads is the clock that pictures follow. Pure.
//
// Sound is placed by its media time, so what was lost leaves silence and never moves what comes after it.
// Chunks arrive in bursts, so the momentary level is a saw-tooth; what counts is its *floor* over a window that is
// longer than the longest chunk. The floor is steered to the *slack*: far above it is delay for nothing, so read 4 %
// fast (a plain ring keeps the delay of every stall for good: 515 → 728 ms were measured); far below it the next late
// chunk would be heard, so read 4 % slow. An interruption that happens all the same makes the slack larger.

const FAST = 1.04; // 4 % is under a semitone, and moves 40 ms a second
const SLOW = 0.96;
const WINDOW_S = 0.8; // two and a half times the longest chunk (320 ms)
const SLACK_START_S = 0.08;
const SLACK_MIN_S = 0.06;
const SLACK_MAX_S = 0.24;
const CALM_WINDOWS = 20; // this many windows without an interruption, then the slack shrinks again, slowly
const HOLD_MAX_S = 1.2; // more than this waiting: something stalled; jump to the newest sound
const RING_S = 4;
const FADE = 64; // samples (4 ms): no click at a start or stop

export class JitterBuffer {
  #ring;
  #base = null; // media time of position 0, in samples
  #read = 0; // positions in samples since base; #read has a fraction
  #write = 0;
  #running = false;
  #waited = 0;
  #gain = 0;
  #floor = Infinity;
  #seen = 0;
  #calm = 0;
  #rate = 1;

  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.#ring = new Float32Array(sampleRate * RING_S);
    this.slack = SLACK_START_S * sampleRate;
    this.underruns = 0; // ran dry while playing
    this.gaps = 0; // holes between chunks, played as silence
    this.late = 0; // chunks that came after their time
    this.jumps = 0; // stalls after which old sound was thrown away
  }

  /** Adds samples (floats) whose first one belongs at `at`, a media time in samples. */
  put(at, samples) {
    const stranger = this.#base !== null && Math.abs(at - this.#base - this.#write) > this.#ring.length;
    if (this.#base === null || stranger) this.#restart(at);
    const start = at - this.#base;
    const end = start + samples.length;
    const from = Math.max(start, Math.ceil(this.#read));
    if (end <= from) {
      this.late++;
      return;
    }
    if (start > this.#write) {
      if (this.#running) this.gaps++;
      for (let i = Math.max(this.#write, Math.floor(this.#read)); i < start; i++) this.#ring[i % this.#ring.length] = 0;
    }
    for (let i = from; i < end; i++) this.#ring[i % this.#ring.length] = samples[i - start];
    this.#write = Math.max(this.#write, end);
    if (this.buffered > HOLD_MAX_S * this.sampleRate) {
      this.#read = Math.max(this.#read, this.#write - samples.length);
      this.#gain = 0;
      this.jumps++;
    }
  }

  /** Fills `out` with the next samples, or with silence while there is nothing to play. */
  pull(out) {
    if (!this.#running && !this.#ready(out.length)) {
      out.fill(0);
      return;
    }
    const dry = this.buffered < out.length * FAST + 2;
    for (let i = 0; i < out.length; i++) {
      this.#gain = dry ? Math.max(0, this.#gain - 1 / FADE) : Math.min(1, this.#gain + 1 / FADE);
      out[i] = this.#gain === 0 ? 0 : this.#sample() * this.#gain;
      this.#read = Math.min(this.#read + this.#rate, this.#write);
    }
    if (dry) this.#stop();
    else this.#trackFloor(out.length);
  }

  /** Forgets what waits; sound starts anew with the next chunk. Counters stay. */
  clear() {
    this.#base = null;
    this.#running = false;
    this.#gain = 0;
  }

  get running() {
    return this.#running;
  }

  get rate() {
    return this.#rate;
  }

  /** Samples that wait. */
  get buffered() {
    return this.#write - this.#read;
  }

  /** Media time of the read position, in samples; null before the first chunk. */
  get position() {
    return this.#base === null ? null : this.#base + this.#read;
  }

  #restart(at) {
    this.#base = at;
    this.#read = this.#write = this.#waited = 0;
    this.#running = false;
    this.#gain = 0;
  }

  // Start when the slack has passed since sound is there: the first chunk's floor is then the slack itself.
  #ready(quantum) {
    if (this.buffered < quantum * 2) {
      this.#waited = 0;
      return false;
    }
    this.#waited += quantum;
    if (this.#waited < this.slack) return false;
    this.#running = true;
    this.#rate = 1;
    this.#openWindow();
    return true;
  }

  #stop() {
    this.underruns++;
    this.slack = Math.min(SLACK_MAX_S * this.sampleRate, this.slack * 1.5);
    this.#running = false;
    this.#gain = this.#waited = this.#calm = 0;
  }

  #trackFloor(played) {
    this.#floor = Math.min(this.#floor, this.buffered);
    this.#seen += played;
    if (this.#seen < WINDOW_S * this.sampleRate) return;
    this.#rate = 1;
    if (this.#floor > this.slack * 1.5) this.#rate = FAST;
    if (this.#floor < this.slack * 0.5) this.#rate = SLOW;
    if (++this.#calm > CALM_WINDOWS) this.slack = Math.max(SLACK_MIN_S * this.sampleRate, this.slack * 0.95);
    this.#openWindow();
  }

  #openWindow() {
    this.#floor = Infinity;
    this.#seen = 0;
  }

  #sample() {
    const index = Math.floor(this.#read);
    const fraction = this.#read - index;
    const size = this.#ring.length;
    const next = index + 1 < this.#write ? this.#ring[(index + 1) % size] : 0;
    return this.#ring[index % size] * (1 - fraction) + next * fraction;
  }
}
