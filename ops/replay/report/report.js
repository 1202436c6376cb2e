"use strict";
(() => {
  const data = JSON.parse(document.getElementById("values").textContent);
  const scroll = document.querySelector(".scroll"), inner = document.querySelector(".inner");
  const cursor = document.querySelector(".cursor"), readout = document.getElementById("readout");
  const zoom = document.getElementById("zoom");
  const bins = data.series.late.values.length;
  const gutter = () => parseFloat(getComputedStyle(inner).paddingLeft);
  const place = () => gutter() + at / data.length * (inner.clientWidth - gutter());
  let at = 0;

  const clock = (ms) => `${Math.floor(ms / 60000)}:${((ms / 1000) % 60).toFixed(1).padStart(4, "0")}`;
  const shown = (value, unit) => value === null ? "–" : unit === "%" ? `${Math.round(value * 100)} %` : `${value} ${unit}`;
  const stepAt = (points) => points.reduce((found, [when, value]) => (when <= at ? value : found), points[0][1]);

  function values() {
    const bin = Math.min(bins - 1, Math.floor(at / data.length * bins)), found = [];
    for (const [name, { unit, values }] of Object.entries(data.series)) found.push([name, shown(values[bin], unit)]);
    for (const [name, tracks] of Object.entries(data.steps)) {
      found.push([name, tracks.map(({ points }) => stepAt(points)).join(" / ") + (name === "chunk" ? " ms" : "")]);
    }
    return found;
  }

  function move(to, follow) {
    at = Math.min(data.length, Math.max(0, to));
    cursor.hidden = false;
    cursor.style.setProperty("--at", at / data.length);
    const found = values();
    for (const [name, text] of found) {
      const output = document.querySelector(`[data-value="${name}"]`);
      if (output) output.textContent = text;
    }
    const names = { late: "late", video: "video", audio: "sound", e2e: "end to end", rung: "rung", chunk: "chunk" };
    readout.textContent = `${clock(at)} · ` + found.filter(([, text]) => text !== "–").map(([name, text]) => `${names[name]} ${text}`).join(" · ");
    if (follow) {
      const x = place();
      if (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x - scroll.clientWidth / 2;
    }
  }

  function magnify(times) {
    const before = place() - scroll.scrollLeft;
    zoom.value = times;
    inner.style.setProperty("--zoom", zoom.value);
    scroll.scrollLeft = place() - before;
  }

  for (const kind of ["pointermove", "pointerdown"]) {
    inner.addEventListener(kind, (event) => {
      const box = inner.getBoundingClientRect();
      move((event.clientX - box.left - gutter()) / (box.width - gutter()) * data.length, false);
    });
  }
  zoom.addEventListener("input", () => magnify(zoom.value));
  scroll.addEventListener("keydown", (event) => {
    const stride = data.length / bins / Math.sqrt(zoom.value);
    const keys = {
      ArrowLeft: () => move(at - stride * (event.shiftKey ? 10 : 1), true),
      ArrowRight: () => move(at + stride * (event.shiftKey ? 10 : 1), true),
      Home: () => move(0, true),
      End: () => move(data.length, true),
      PageDown: () => move(data.stops.find((stop) => stop > at + .5) ?? data.length, true),
      PageUp: () => move(data.stops.findLast((stop) => stop < at - .5) ?? 0, true),
      "+": () => magnify(Number(zoom.value) + 1),
      "-": () => magnify(Number(zoom.value) - 1),
    };
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  move(0, false);
})();
