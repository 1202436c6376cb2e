// The lists: camera, microphone, voice and faces; and whose consent the chosen identities rest on.

import { listDevices } from "./devices.js";
import { fill } from "./options.js";
import { chooseFace, fillFaces, lockPeople, setUpPeople, wornFaces } from "./people.js";

const DEVICES = [
  ["camera", "videoinput", "Default camera"],
  ["microphone", "audioinput", "Default microphone"],
];
const consent = document.getElementById("consent");
const list = (id) => document.getElementById(id);
let identities = [];

/** Calls `changed({face} or {faces} or {voice})` when another identity is picked. */
export function setUpPickers(changed) {
  const tell = (change) => {
    showConsent();
    changed(change);
  };
  setUpPeople(tell);
  list("voice").onchange = () => tell({ voice: list("voice").value });
  navigator.mediaDevices?.addEventListener?.("devicechange", fillDevices);
}

export function chosenDevices() {
  return { camera: list("camera").value, microphone: list("microphone").value };
}

/** What to ask of the service: `voice`, and `face` or `faces`. */
export function chosenIdentities() {
  return { ...wornFaces(), voice: list("voice").value };
}

/** Whether the session that starts is to be recorded. */
export function recordingWanted() {
  return list("record").checked;
}

/** Devices, whether it is recorded, and how many people at most stay during a session; faces and voice may change. */
export function lockForSession(locked) {
  lockPeople(locked);
  list("record").disabled = locked;
  for (const [id] of DEVICES) list(id).disabled = locked;
}

export async function fillDevices() {
  const found = await listDevices();
  for (const [id, kind, standard] of DEVICES) {
    const options = found[kind].map((device) => new Option(device.label, device.id));
    fill(list(id), [new Option(standard, ""), ...options]);
  }
}

export function fillIdentities(known) {
  identities = known.filter((identity) => !identity.revoked);
  fillFaces(() => optionsFor("face", "None: cover every face"));
  fill(list("voice"), optionsFor("voice", "None: stay silent"));
  showConsent();
}

/** Picks an identity for everything that it has. */
export function chooseIdentity({ id, kinds }) {
  if (kinds.includes("face")) chooseFace(id);
  if (kinds.includes("voice")) list("voice").value = id;
  showConsent();
}

function optionsFor(kind, none) {
  const able = identities.filter((identity) => identity.kinds.includes(kind));
  return [...able.map(({ label, id }) => new Option(label, id)), new Option(none, "")];
}

function showConsent() {
  const chosen = Object.values(chosenIdentities()).flat();
  const worn = chosen.map((id) => identities.find((identity) => identity.id === id));
  const lines = new Set(worn.filter(Boolean).map(consentLine));
  consent.textContent = [...lines].join(" · ") || "No identity is worn: faces are covered, sound is silent.";
}

function consentLine({ label, subject, expires_ms: expiresMs }) {
  return `${label}: consent from ${subject} until ${new Date(expiresMs).toLocaleDateString()}`;
}
