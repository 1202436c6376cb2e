// Any sample rate → 16 kHz, by a windowed sinc that also removes what 16 kHz cannot hold. Pure.

const LOBES = 11; // of the sinc on each side: 0.7 ms of delay, and 11 kHz is 60 dB down
const PHASES = 256; // the kernel is tabled at this many positions between two samples
const PASS = 0.92; // pass band up to 7.4 kHz of the 8 kHz that fit

export class Resampler {
  #ratio;
  #reach; // taps on each side, in input samples
  #kernel;
  #held; // the end of the input so far
  #position; // of the next output sample, within #held

  constructor(from, to) {
    this.#ratio = from / to;
    this.#reach = Math.ceil(LOBES * Math.max(1, this.#ratio));
    this.#kernel = kernelTable(this.#reach, Math.min(1, to / from) * PASS);
    this.#held = new Float32Array(2 * this.#reach);
    this.#position = this.#reach;
  }

  /** Returns the 16 kHz samples that `input` completes; keeps the rest for the next call. */
  push(input) {
    if (this.#ratio === 1) return input;
    const samples = new Float32Array(this.#held.length + input.length);
    samples.set(this.#held);
    samples.set(input, this.#held.length);
    const out = [];
    while (Math.floor(this.#position) + this.#reach < samples.length) {
      out.push(this.#at(samples, this.#position));
      this.#position += this.#ratio;
    }
    const used = Math.min(samples.length, Math.floor(this.#position) - this.#reach + 1);
    this.#held = samples.slice(used);
    this.#position -= used;
    return Float32Array.from(out);
  }

  #at(samples, position) {
    const width = 2 * this.#reach;
    const whole = Math.floor(position);
    const first = whole - this.#reach + 1;
    const row = Math.round((position - whole) * PHASES) * width;
    let sum = 0;
    for (let tap = 0; tap < width; tap++) sum += samples[first + tap] * this.#kernel[row + tap];
    return sum;
  }
}

// One row of 2 × reach weights for each phase, each row with sum 1.
function kernelTable(reach, cutoff) {
  const width = 2 * reach;
  const table = new Float32Array((PHASES + 1) * width);
  for (let phase = 0; phase <= PHASES; phase++) {
    const row = table.subarray(phase * width, (phase + 1) * width);
    for (let tap = 0; tap < width; tap++) {
      const distance = tap - reach + 1 - phase / PHASES;
      const hann = Math.abs(distance) >= reach ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * distance) / reach);
      row[tap] = sinc(cutoff * distance) * hann;
    }
    const sum = row.reduce((total, weight) => total + weight, 0);
    for (let tap = 0; tap < width; tap++) row[tap] /= sum;
  }
  return table;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}
