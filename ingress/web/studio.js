// The page: puts the parts together and shows one live session. It holds no media; `live.js` and the worker do.

import { Api, ApiError } from "./api.js";
import { blame, explainDevice } from "./camera-errors.js";
import { devicesOffered, named } from "./devices.js";
import { setUpEnrolment } from "./enrol.js";
import { Live } from "./live.js";
import { notify, withdraw, withdrawAll } from "./notices.js";
import * as pickers from "./pickers.js";
import { clearReadout, expectRecording, showParams, showStats, showStatus } from "./readout.js";
import { showStudio, signIn, signOut } from "./sign-in.js";

const $ = (id) => document.getElementById(id);
const api = new Api();
let subject = "";
let live = new Live(api, {});
let panic = false;
let unanswered = 0; // seconds in which pictures went out and none came back

const STATUS = {
  new: ["off", "Off"],
  asking: ["busy", "Waiting for camera and microphone…"],
  starting: ["busy", "Starting…"],
  live: ["live", "Live"],
  reconnecting: ["warn", "Connection lost, trying again…"],
  ended: ["off", "Off"],
};
const COVER = {
  live: "",
  frozen: "",
  blank: "Nothing new to show: the picture is withheld",
  panic: "Panic: nothing is shown or heard",
};
const TOKEN_OVER = 4401;
const UNANSWERED_MAX = 4;
const isRunning = () => !["new", "ended"].includes(live.state);
const isConnected = () => ["live", "reconnecting"].includes(live.state);

async function enter() {
  try {
    subject = (await api.me()).sub;
    pickers.fillIdentities(await api.identities());
  } catch (error) {
    if (error.signedOut) return signOut(api);
    const title = "The service did not answer as expected";
    return notify("service", { title, fix: error.message, name: error.code, retry: enter });
  }
  $("who").textContent = `Signed in as ${subject}`;
  showStudio();
  await pickers.fillDevices();
}

// --- one session ---------------------------------------------------------------------------------------------------

function start() {
  withdrawAll();
  unanswered = 0;
  live = new Live(api, {
    state: onState,
    server: onServer,
    stats: onStats,
    view: onView,
    level: (value) => ($("level").value = value),
    hang: () => notify("device", { ...explainDevice(named("Hang")), kind: "warn" }),
  });
  const wishes = { ...pickers.chosenIdentities(), record: pickers.recordingWanted() };
  expectRecording(wishes.record);
  live.start({ ...pickers.chosenDevices(), wishes, preview: $("own"), canvas: freshCanvas() });
}

// A canvas can be given to a worker once, so each session gets its own.
function freshCanvas() {
  const fresh = $("output").cloneNode(false);
  $("output").replaceWith(fresh);
  return fresh;
}

function onState(state, detail) {
  showControls();
  $("own-cover").hidden = state !== "asking" && isRunning();
  if (state === "starting") {
    withdraw("device");
    $("output-cover").textContent = "Waiting for the first picture…";
    pickers.fillDevices(); // with access given, devices have names
  } else if (state === "live") {
    withdraw("connection");
    live.audible($("listen").checked);
  } else if (state === "reconnecting") {
    const fix = "The camera stays on. The session resumes if the service is back within 30 s.";
    notify("connection", { title: "The connection to the service was lost", fix, kind: "warn", name: "reconnecting" });
  } else if (state === "ended") {
    onEnd(detail);
  }
}

function showControls() {
  const [look, text] = panic && isConnected() ? ["warn", "Panic: off air"] : STATUS[live.state];
  $("status").dataset.state = look;
  $("status").textContent = text;
  $("start").disabled = isRunning();
  $("stop").disabled = !isRunning();
  $("panic").disabled = !isConnected();
  $("panic").setAttribute("aria-pressed", String(panic));
  $("panic-text").textContent = panic ? "Go back on air" : "Panic";
  pickers.lockForSession(isRunning());
  const next = { start: "stop", stop: "start" }[document.activeElement?.id];
  if (next && document.activeElement.disabled) $(next).focus(); // a disabled button would swallow the keyboard
}

async function onEnd({ error, end, device }) {
  panic = false;
  showControls();
  clearReadout();
  $("own").srcObject = null;
  $("level").value = 0;
  $("output-cover").hidden = false;
  $("output-cover").textContent = "Nothing is shown";
  for (const key of ["connection", "device", "quiet"]) withdraw(key);
  if (error?.signedOut || end?.code === TOKEN_OVER) signOut(api);
  else if (end) notify("end", { ...end, name: "ended" });
  else if (error instanceof ApiError) {
    notify("end", { title: "The service refused", fix: error.message, name: error.code });
  } else if (error) {
    notify("device", explainDevice(error, device ?? (await blame(error))));
  }
}

function onStats(stats) {
  showStats(stats);
  unanswered = stats.sentFps > 0 && stats.receivedFps === 0 ? unanswered + 1 : 0;
  if (unanswered === UNANSWERED_MAX) {
    const fix = "The service takes it, but sends nothing back: it may still be starting, or all its workers are busy.";
    notify("quiet", { title: "No picture comes back yet", fix, kind: "warn", name: "quiet" });
  } else if (unanswered === 0) {
    withdraw("quiet");
  }
}

function onServer(message) {
  if (message.type === "ready") showParams(message.params);
  else if (message.type === "params") showParams(message);
  else if (message.type === "status") showStatus(message);
  else if (message.type === "error") {
    const wait = message.retry_after_ms ? ` Wait ${Math.ceil(message.retry_after_ms / 1000)} s.` : "";
    const title = "The service did not accept something";
    notify("service", { title, fix: `${message.detail}.${wait}`, kind: "warn", name: message.code });
  }
}

function onView(state) {
  $("output-cover").hidden = COVER[state] === "";
  $("output-cover").textContent = COVER[state];
}

// --- controls ------------------------------------------------------------------------------------------------------

function setPanic(on) {
  panic = on;
  live.panic(on);
  if (on) onView("panic"); // at once, whatever the worker is busy with
  showControls();
}

$("start").onclick = start;
$("stop").onclick = () => live.stop();
$("panic").onclick = () => setPanic(!panic);
$("listen").onchange = () => live.audible($("listen").checked);
// Escape only ever switches panic on: a key that is hit in fright must not undo itself.
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isConnected() && !panic) setPanic(true);
}, { capture: true });

// A page that goes away ends its session: no worker should wait half a minute for somebody who left.
window.addEventListener("pagehide", () => live.stop());

pickers.setUpPickers((change) => {
  if (isRunning()) live.change(change);
});
setUpEnrolment(api, () => subject, async (added) => {
  pickers.fillIdentities(await api.identities());
  if (!isRunning()) pickers.chooseIdentity(added);
  notify("enrolled", { title: "Added", fix: "It is in the lists now.", kind: "info" });
});
clearReadout();
if (!devicesOffered()) notify("device", explainDevice(named("InsecurePage")));
signIn(api, enter);
