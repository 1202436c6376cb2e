// Every way in which a camera or microphone is not given, said as what happened and what to do. Pure but for `blame`.

export const DEVICE = { both: "camera or microphone", video: "camera", audio: "microphone" };

const EXPLANATIONS = {
  InsecurePage: () => [
    "This page is not secure, so there is no camera",
    "Browsers give the camera and microphone only to https:// pages and to localhost. Open the studio there.",
  ],
  NotAllowedError: (device) => [
    `The ${device} is blocked for this page`,
    "Allow it in the site settings (the icon left of the address) and in the computer's privacy settings.",
  ],
  NotFoundError: (device) => [
    `No ${device} was found`,
    "Plug one in, or switch it on (some laptops have a shutter or a key). Then press Start again.",
  ],
  NotReadableError: (device) => [
    `The ${device} is in use by another program`,
    "Close the call, recorder or browser tab that holds it, or unplug it and plug it in again. Then press Start.",
  ],
  OverconstrainedError: (device) => [
    `The chosen ${device} is not there, or cannot do what was asked`,
    "Pick another one from the list, or “Default”, and press Start again.",
  ],
  SecurityError: (device) => [
    `The use of the ${device} is switched off for this page`,
    "A browser setting, an extension or the organisation's policy forbids it. Allow it there, or use another browser.",
  ],
  AbortError: (device) => [
    `The ${device} failed to start`,
    "Unplug it and plug it in again, or restart the browser. Then press Start again.",
  ],
  Ended: (device) => [
    `The ${device} was unplugged or taken away`,
    "Plug it in again or pick another one, then press Start.",
  ],
  NoSound: () => [
    "The computer's sound does not start",
    "Browsers need a sound output even for a microphone. Connect loudspeakers or headphones, then press Start again.",
  ],
  Hang: (device) => [
    `The browser has not given an answer about the ${device} yet`,
    "Look for its question near the address bar and answer it. If there is none, close programs that hold the device.",
  ],
};

/** Returns {name, title, fix} for an error of getUserMedia; `device` is "both", "video" or "audio". */
export function explainDevice(error, device = "both") {
  const say = EXPLANATIONS[error.name];
  if (say) {
    const [title, fix] = say(DEVICE[device]);
    return { name: error.name, title, fix };
  }
  return {
    name: error.name ?? "Error",
    title: `The ${DEVICE[device]} could not be started`,
    fix: `The browser says: ${error.message || error.name}. Try another device or browser.`,
  };
}

/** Finds out which of the two devices an error is about, as far as the browser tells. */
export async function blame(error) {
  if (error.name === "NotAllowedError") return onlyOne(await denied("camera"), await denied("microphone"));
  if (error.name !== "NotFoundError") return "both";
  const devices = await navigator.mediaDevices.enumerateDevices();
  const lacks = (kind) => !devices.some((device) => device.kind === kind);
  return onlyOne(lacks("videoinput"), lacks("audioinput"));
}

function onlyOne(video, audio) {
  if (video === audio) return "both";
  return video ? "video" : "audio";
}

async function denied(name) {
  try {
    return (await navigator.permissions.query({ name })).state === "denied";
  } catch {
    return false; // a browser that does not answer this question
  }
}
