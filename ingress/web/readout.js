// The figures on the page: numbers with units, the stages of the delay, and why the service stepped down.

const field = (name) => document.getElementById(`f-${name}`);

let params = {};
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

export function showStatus({ dropped, voice, stage_ms: stages }) {
  dropsNew = Math.max(0, dropped - dropsTold);
  dropsTold = dropped;
  put("service", dropped, 0);
  field("voice").textContent = voice ?? "–";
  for (const kind of ["video", "audio"]) showStages(kind, stages?.[kind] ?? {});
}

export function showParams(given) {
  params = { ...params, ...given };
  const { size, fps, quality, rung, reason } = params;
  field("format").textContent = size ? `${size} px · ${fps}/s · q${quality}` : "–";
  const line = document.getElementById("rung");
  line.hidden = !(rung > 0);
  line.textContent = rung > 0 ? `Step ${rung} down to keep up: ${reason || "the service is busy"}` : "";
}

/** Empties every figure: nothing is live. */
export function clearReadout() {
  params = {};
  dropsTold = dropsNew = 0;
  for (const value of document.querySelectorAll(".figures dd")) value.textContent = "–";
  for (const kind of ["video", "audio"]) showStages(kind, {});
  document.getElementById("rung").hidden = true;
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
