// What the last second looked like: delay, sync, rates and drops, each from what was really shown. Pure.

export class Figures {
  #openedMs = null;
  #shown = 0;
  #delays = [];
  #offsets = [];
  #lateBefore = 0;
  sent = 0;
  skipped = 0; // left out at the camera: encoder or network busy
  received = 0;
  undecoded = 0; // came, and could not be decoded (in time)

  /** Notes a picture drawn `delayMs` after its capture, `offsetMs` behind the sound (null without sound). */
  show(delayMs, offsetMs) {
    this.#shown++;
    this.#delays.push(delayMs);
    if (offsetMs !== null) this.#offsets.push(offsetMs);
  }

  /** Returns the figures since the last call. `late` counts pictures that were passed over, ever. */
  close(nowMs, late) {
    const seconds = this.#openedMs === null ? 1 : (nowMs - this.#openedMs) / 1000;
    const figures = {
      sentFps: this.sent / seconds,
      shownFps: this.#shown / seconds,
      receivedFps: this.received / seconds,
      delayMs: quantile(this.#delays, 0.5),
      delaySlowestMs: quantile(this.#delays, 0.95),
      syncMs: quantile(this.#offsets, 0.5),
      skipped: this.skipped,
      late: late - this.#lateBefore,
      undecoded: this.undecoded,
    };
    this.#openedMs = nowMs;
    this.#lateBefore = late;
    this.#shown = this.sent = this.skipped = this.received = this.undecoded = 0;
    this.#delays = [];
    this.#offsets = [];
    return figures;
  }
}

function quantile(values, share) {
  if (values.length === 0) return null;
  values.sort((one, other) => one - other);
  return values[Math.min(values.length - 1, Math.floor(values.length * share))];
}
