// Camera and microphone: listing them, and opening both at once with a word when the browser takes long to answer.

const CAMERA = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
// Echo is cancelled because the converted voice plays here too; the other filters would colour the voice.
const MICROPHONE = { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: false };
const HANG_MS = 8000;

/** Whether the browser gives devices to this page at all. */
export function devicesOffered() {
  return window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Returns {videoinput, audioinput}, each a list of {id, label}; labels are known once access was given. */
export async function listDevices() {
  const lists = { videoinput: [], audioinput: [] };
  if (!devicesOffered()) return lists;
  for (const { kind, deviceId, label } of await navigator.mediaDevices.enumerateDevices()) {
    if (!(kind in lists) || deviceId === "" || deviceId === "default" || deviceId === "communications") continue;
    lists[kind].push({ id: deviceId, label: label || `Device ${lists[kind].length + 1}` });
  }
  return lists;
}

/** Opens both devices; an empty ID is the default one. Calls `onHang` when there is no answer for long. */
export async function openDevices({ camera, microphone, onHang }) {
  if (!devicesOffered()) throw named("InsecurePage");
  const exact = (id) => (id ? { deviceId: { exact: id } } : {});
  const timer = setTimeout(onHang, HANG_MS);
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { ...CAMERA, ...exact(camera) },
      audio: { ...MICROPHONE, ...exact(microphone) },
    });
  } finally {
    clearTimeout(timer);
  }
}

export function named(name, message = "") {
  return Object.assign(new Error(message), { name });
}
