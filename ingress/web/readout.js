// The figures on the page: numbers with units, the stages of the delay, and what is reduced and why.

import { delayLine, recordingLabel, recordingLine, videoLine, voiceLine } from "./condition.js";

const field = (name) => document.getElementById(`f-${name}`);

const NEWS_MS = 10_000; // good news stays this long

let params = {};
let voice = "on";
let recorded = false;
let dropsTold = 0; // the service's count of drops, ever, in its last `status`
let dropsNew = 0; // of these, since the `status` before

/** Shows the last second as the media worker saw it. */
export function showStats(stats) {
  const { sound } = stats;
  put("delay", stats.delayMs, 0, "ms");
  put("delay-slow", stats.delaySlowestMs, 0, "ms");
  put("fps", stats.shownFps, 1);
  put("sent", stats.sentFps, 1);
  put("sync", stats.syncMs, 0, "ms");
  put("buffer", sound?.running ? sound.bufferedMs : null, 0, "ms");
  put("underruns", sound ? sound.underruns + sound.gaps : null, 0);
  put("skipped", stats.skipped, 0, "/s");
  put("late", stats.late + stats.undecoded, 0, "/s");
  put("dropped", stats.skipped + stats.late + stats.undecoded + dropsNew, 0, "/s");
}

export function showStatus(status) {
  const { dropped, sound, stage_ms: stages, archive } = status;
  dropsNew = Math.max(0, dropped - dropsTold);
  dropsTold = dropped;
  put("service", dropped, 0);
  field("voice").textContent = sound ?? "–";
  say("delay", delayLine(status));
  if (status.voice !== voice) {
    say("voice", voiceLine(status.voice, voice), status.voice === "on");
    voice = status.voice;
  }
  showRecording(archive);
  for (const kind of ["video", "audio"]) showStages(kind, stages?.[kind] ?? {});
}

export function showParams(given) {
  const before = params.rung ?? 0;
  params = given;
  const { size, fps, quality, rung, chunk_ms: chunk } = params;
  field("format").textContent = `${size ? `${size} px` : "full size"} · ${fps}/s · q${quality}`;
  put("chunk", chunk, 0, "ms");
  if (rung !== before) say("video", videoLine(params, before), rung === 0);
}

/** Notes whether the session that begins is `wanted` to be recorded. */
export function expectRecording(wanted) {
  recorded = wanted;
  showRecording(null);
}

function showRecording(archive) {
  const pill = document.getElementById("recording");
  const label = recordingLabel(recorded, archive);
  if (pill.textContent !== label) pill.textContent = label;
  pill.hidden = label === "";
  pill.dataset.state = recordingLine(archive) ? "warn" : "live";
  say("recording", recordingLine(archive));
}

// Puts a sentence where a screen reader hears of it, once; good news goes away by itself.
function say(about, text, isNews = false) {
  const line = document.querySelector(`#condition [data-about="${about}"]`);
  if (line.textContent === text) return;
  line.textContent = text;
  if (isNews) setTimeout(() => line.textContent === text && (line.textContent = ""), NEWS_MS);
}

/** Empties every figure: nothing is live. */
export function clearReadout() {
  params = {};
  voice = "on";
  dropsTold = dropsNew = 0;
  expectRecording(false);
  for (const about of ["video", "voice", "delay"]) say(about, "");
  for (const value of document.querySelectorAll(".figures dd")) value.textContent = "–";
  for (const kind of ["video", "audio"]) showStages(kind, {});
}

function put(name, value, digits, unit = "") {
  field(name).textContent = value == null ? "–" : value.toFixed(digits) + (unit === "ms" ? "\u202fms" : unit);
}

// The stages of one kind of media as shares of a bar, and as a list with numbers. `total` is their sum and the waits.
function showStages(kind, { total, ...stages }) {
  const taken = Object.entries(stages).filter(([, ms]) => ms > 0);
  document.getElementById(`stages-${kind}`).hidden = taken.length === 0;
  put(`total-${kind}`, total, 1, "ms");
  const bar = taken.map(([, ms], index) => {
    const part = mark(index);
    part.style.flexGrow = String(ms);
    return part;
  });
  const items = taken.map(([name, ms], index) => {
    const item = document.createElement("li");
    item.append(mark(index), `${name.replaceAll("_", " ")} ${ms.toFixed(1)}\u202fms`);
    return item;
  });
  document.querySelector(`#stages-${kind} .stages-bar`).replaceChildren(...bar);
  document.querySelector(`#stages-${kind} ul`).replaceChildren(...items);
}

function mark(index) {
  const span = document.createElement("span");
  span.className = `stage-${index % 8}`;
  return span;
}
