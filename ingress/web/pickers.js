// The four lists: camera, microphone, face and voice; and whose consent the chosen identities rest on.

import { listDevices } from "./devices.js";

const DEVICES = [
  ["camera", "videoinput", "Default camera"],
  ["microphone", "audioinput", "Default microphone"],
];
const IDENTITIES = [
  ["face", "None: cover every face"],
  ["voice", "None: stay silent"],
];
const consent = document.getElementById("consent");
const list = (id) => document.getElementById(id);
let identities = [];

/** Calls `changed({face} or {voice})` when another identity is picked. */
export function setUpPickers(changed) {
  for (const [kind] of IDENTITIES) {
    list(kind).onchange = () => {
      showConsent();
      changed({ [kind]: list(kind).value });
    };
  }
  navigator.mediaDevices?.addEventListener?.("devicechange", fillDevices);
}

export function chosenDevices() {
  return { camera: list("camera").value, microphone: list("microphone").value };
}

export function chosenIdentities() {
  return { face: list("face").value, voice: list("voice").value };
}

/** Whether the session that starts is to be recorded. */
export function recordingWanted() {
  return list("record").checked;
}

/** Devices, and whether it is recorded, stay as they are during a session; faces and voices may change. */
export function lockDevices(locked) {
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
  for (const [kind, none] of IDENTITIES) {
    const able = identities.filter((identity) => identity.kinds.includes(kind));
    fill(list(kind), [...able.map(({ label, id }) => new Option(label, id)), new Option(none, "")]);
  }
  showConsent();
}

/** Picks an identity for everything that it has. */
export function chooseIdentity({ id, kinds }) {
  for (const kind of kinds) list(kind).value = id;
  showConsent();
}

function fill(select, options) {
  const before = select.options.length > 1 ? select.value : null; // with one option there was nothing to choose
  select.replaceChildren(...options);
  if (options.some((option) => option.value === before)) select.value = before;
}

function showConsent() {
  const worn = Object.values(chosenIdentities()).map((id) => identities.find((identity) => identity.id === id));
  const lines = new Set(worn.filter(Boolean).map(consentLine));
  consent.textContent = [...lines].join(" · ") || "No identity is worn: faces are covered, sound is silent.";
}

function consentLine({ label, subject, expires_ms: expiresMs }) {
  return `${label}: consent from ${subject} until ${new Date(expiresMs).toLocaleDateString()}`;
}
