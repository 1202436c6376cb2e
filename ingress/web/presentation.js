// Which picture to show when: the newest frame at or before the sound that plays now, and nothing stale. Pure.

const AUDIO_LOST_MS = 500; // no sound this long: pictures stop waiting for it and are shown as they come
const FROZEN_MS = 300; // a person sees a stop from about here
const BLANK_MS = 1000; // nothing new for this long: take the last picture away (fail closed)
const QUEUE_MAX = 60;

/** The media time that is heard now, carried on between the player's reports; null while no sound plays. */
export class AudioClock {
  #report = null;
  #at = 0;
  #lastRun = -Infinity;
  latencyMs = 0; // from the read position to the loudspeaker

  update(report, nowMs) {
    this.#report = report;
    this.#at = nowMs;
    if (report.running) this.#lastRun = nowMs;
  }

  /** Returns microseconds, null for "halted, wait", or Infinity for "no sound to follow, show the newest". */
  now(nowMs) {
    const report = this.#report;
    if (nowMs - this.#lastRun > AUDIO_LOST_MS) return Infinity;
    if (!report.running) return null;
    return report.positionUs + (nowMs - this.#at - this.latencyMs) * 1000;
  }
}

/** Frames that wait for their sound, in media order whatever order they came in. */
export class FrameQueue {
  #frames = [];
  #shown = -Infinity;
  late = 0; // came after a newer one was shown, or were passed over for a newer one

  get length() {
    return this.#frames.length;
  }

  /** Adds `frame` ({ptsUs, picture}); a picture that will never be shown is closed. */
  add(frame) {
    if (frame.ptsUs <= this.#shown) {
      this.#discard(frame);
      return;
    }
    let at = this.#frames.length;
    while (at > 0 && this.#frames[at - 1].ptsUs > frame.ptsUs) at--;
    this.#frames.splice(at, 0, frame);
    if (this.#frames.length > QUEUE_MAX) this.#discard(this.#frames.shift());
  }

  /** Returns the newest frame at or before `clockUs`, or null; older ones are let go. The caller closes the picture. */
  take(clockUs) {
    let due = null;
    while (this.#frames.length > 0 && this.#frames[0].ptsUs <= clockUs) {
      if (due) this.#discard(due);
      due = this.#frames.shift();
    }
    if (due) this.#shown = due.ptsUs;
    return due;
  }

  clear() {
    for (const frame of this.#frames) frame.picture.close();
    this.#frames = [];
    this.#shown = -Infinity;
  }

  #discard(frame) {
    frame.picture.close();
    this.late++;
  }
}

/** Tells what the view may show, from when the last new picture came: "live", "frozen" or "blank". */
export function freshness(nowMs, lastNewMs) {
  const age = nowMs - lastNewMs;
  if (age >= BLANK_MS) return "blank";
  return age >= FROZEN_MS ? "frozen" : "live";
}
