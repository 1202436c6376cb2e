// What is reduced, and why, in plain words: video, voice, sync and recording. Pure; `readout.js` shows it.

const WHY = {
  "video.slow": "the worker is over budget",
  "video.drops": "the worker is busy, and pictures were dropped",
  "video.late": "the picture fell behind the sound",
};
const RECOVERING = ["video.up", "video.probe"];
const ARCHIVE = {
  on: "Recording",
  behind: "Recording, with gaps",
  degraded: "Recording failed",
  complete: "Recorded",
};

/** What holds for pictures: "" on the top rung. `before` is the rung before this change. */
export function videoLine({ rung = 0, fps, size, quality, reason = "" }, before = 0) {
  if (rung === 0) return before > 0 ? "Video is back at full quality." : "";
  const now = `${fps} fps, ${size ? `${size} px` : "full size"}, JPEG quality ${quality}`;
  if (RECOVERING.includes(reason)) return `Video is getting better again: ${now}. It recovers step by step.`;
  return `Video reduced to ${now}: ${WHY[reason] ?? "the service is busy"}. It recovers by itself.`;
}

/** What becomes of the voice; "" while it is converted and was before. */
export function voiceLine(voice, before = "on") {
  const cause = "conversion is too slow for real time. It is tried again by itself.";
  if (voice === "silent") return `The voice is off, viewers hear silence: ${cause}`;
  if (voice === "through") return `Your own voice is heard, unconverted: ${cause}`;
  return before === "on" ? "" : "The voice is converted again.";
}

/** Facts about the delay that the service has found. */
export function delayLine({ soft_skip: skip, latency_missed_ms: missed, overloaded_pm: overloaded }) {
  const lines = [];
  if (overloaded != null) lines.push("Video is as reduced as it gets, and the worker is still over budget.");
  if (skip > 0) lines.push(`One picture of ${skip} is left out until the picture catches up with the sound.`);
  if (missed != null) lines.push(`You hear and see yourself ${missed} ms late: above the service's target.`);
  return lines.join(" ");
}

/** How the recording stands, in two or three words; "" where nothing is recorded. */
export function recordingLabel(wanted, archive) {
  if (!wanted) return "";
  return archive === null ? "Recording starts" : (ARCHIVE[archive.state] ?? archive.state);
}

/** What is wrong with the recording; "" while nothing is. */
export function recordingLine(archive) {
  if (archive?.state === "behind") {
    return `The recording could not keep up: ${archive.missed} messages are missing. The session goes on.`;
  }
  if (archive?.state === "degraded") {
    return "The recording has stopped: the service cannot write it. The session goes on, unrecorded.";
  }
  return "";
}
