// The media path of one live session, away from the page's own work: socket, JPEG, the queue of pictures, drawing.
//
// From the page: start, socket {url, token}, refresh {token}, settings {…}, panic {on}, latency {ms}, frame, stop.
// To the page:   server {message}, closed {code, reason}, level {value}, stats {…}, view {state}.
// A socket may come and go; capture, clocks and sequence numbers live on, so that a reconnect resumes.

import { AUDIO, SAMPLE_RATE, VIDEO, decode, encode } from "./wire.js";
import { CaptureClock, Pacer, sendSize } from "./pacing.js";
import { AudioClock, FrameQueue, freshness } from "./presentation.js";
import { Figures } from "./figures.js";

const SEND_BUFFER_MAX = 256 * 1024; // bytes: beyond this the network is behind, and what waits only gets older
const DECODES_MAX = 8;
const REPORT_MS = 1000;
const WATCH_MS = 100;
const SILENT_MS = 5000; // the service speaks every second: this long without a word, and the connection is dead
const LEVEL_EVERY = 4; // pieces of sound: eight times a second is enough for a meter

const params = { fps: 20, size: 512, quality: 85 };
const capture = new CaptureClock();
const pacer = new Pacer();
const clock = new AudioClock();
const queue = new FrameQueue();
const figures = new Figures();

let socket = null;
let speaker = null; // port of the playback worklet
let canvas = null;
let screen = null; // the canvas's 2D context
let scratch = null; // where camera frames are scaled
let encoding = false;
let decoding = 0;
let videoSeq = 0;
let audioSeq = 0;
let lastNewMs = -Infinity;
let shownPtsUs = null;
let sound = null; // the player's last report
let panic = false;
let wearing = null; // identities that were changed since the start
let view = "blank";
let stopped = false;
let spokenMs = 0; // when the service last sent anything

const now = () => performance.now();
const handlers = { start, socket: connect, refresh, settings, panic: setPanic, latency, frame: onFrame, stop };

self.onmessage = ({ data }) => handlers[data.op](data);

// --- life ----------------------------------------------------------------------------------------------------------

function start(message) {
  canvas = message.canvas;
  screen = canvas.getContext("2d", { alpha: false, desynchronized: true });
  message.microphone.onmessage = ({ data }) => onSound(data);
  speaker = message.speaker;
  speaker.onmessage = ({ data }) => onPlayed(data);
  if (message.frames) pump(message.frames);
  setInterval(report, REPORT_MS);
  setInterval(watch, WATCH_MS);
  blank();
  draw();
}

function stop() {
  stopped = true;
  socket?.close(1000);
  blank();
  speaker.postMessage({ clear: true });
}

// --- socket --------------------------------------------------------------------------------------------------------

function connect({ url, token }) {
  const opened = new WebSocket(url, ["mirage.v1", `bearer.${token}`]);
  opened.binaryType = "arraybuffer";
  opened.onclose = ({ code, reason }) => lose(opened, code, reason);
  opened.onmessage = ({ data }) => {
    spokenMs = now();
    if (typeof data === "string") onText(JSON.parse(data));
    else onMedia(data);
  };
  spokenMs = now();
  socket = opened;
}

function lose(lost, code, reason) {
  if (socket !== lost) return;
  socket = null;
  postMessage({ op: "closed", code, reason });
}

// A network that swallows everything closes nothing. Waiting for its own timeout would take minutes.
function dropDeadSocket() {
  if (socket === null || now() - spokenMs < SILENT_MS) return;
  const dead = socket;
  lose(dead, 1006, "no word from the service");
  dead.close();
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function refresh({ token }) {
  say({ type: "refresh", token });
}

function settings({ change }) {
  wearing = { ...wearing, ...change };
  say({ type: "settings", ...change });
}

function onText(message) {
  if (message.type === "params") adopt(message);
  if (message.type === "ready") {
    adopt(message.params);
    if (panic || message.panic) say({ type: "panic", on: panic }); // the key may have moved while we were away
    if (wearing !== null) say({ type: "settings", ...wearing });
  }
  postMessage({ op: "server", message });
}

function adopt(given) {
  for (const name of Object.keys(params)) if (given?.[name] != null) params[name] = given[name];
  pacer.fps = params.fps;
}

function sendMedia(type, ptsUs, seq, bytes) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(encode(type, ptsUs, seq, bytes));
  return true;
}

// --- out: microphone and camera ------------------------------------------------------------------------------------

function onSound({ pcm, first, level }) {
  capture.heard(first + pcm.byteLength / 2, SAMPLE_RATE, now());
  const bytes = new Uint8Array(pcm);
  if (panic) bytes.fill(0); // silence keeps the session open, and nothing of the voice leaves
  sendMedia(AUDIO, Math.round((first * 1e6) / SAMPLE_RATE), audioSeq++, bytes);
  if (audioSeq % LEVEL_EVERY === 0) postMessage({ op: "level", value: level });
}

async function pump(readable) {
  const reader = readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onFrame({ picture: value });
  }
}

async function onFrame({ picture }) {
  const at = now();
  const wanted = socket?.readyState === WebSocket.OPEN && !panic && !stopped && capture.ready && pacer.admit(at);
  if (!wanted || encoding || socket.bufferedAmount > SEND_BUFFER_MAX) {
    if (wanted) figures.skipped++;
    picture.close();
    return;
  }
  encoding = true; // reserved before the await: otherwise frames pile up inside the encoder
  try {
    const ptsUs = capture.ptsUs(at);
    const jpeg = await compress(picture);
    if (!panic && sendMedia(VIDEO, ptsUs, videoSeq++, jpeg)) figures.sent++;
    else figures.skipped++;
  } finally {
    encoding = false;
  }
}

async function compress(picture) {
  const wide = picture.displayWidth ?? picture.width;
  const high = picture.displayHeight ?? picture.height;
  const [width, height] = sendSize(wide, high, params.size);
  if (scratch?.width !== width || scratch?.height !== height) scratch = new OffscreenCanvas(width, height);
  scratch.getContext("2d", { alpha: false }).drawImage(picture, 0, 0, width, height);
  picture.close();
  const blob = await scratch.convertToBlob({ type: "image/jpeg", quality: params.quality / 100 });
  return new Uint8Array(await blob.arrayBuffer());
}

// --- in: sound and pictures ----------------------------------------------------------------------------------------

function onMedia(buffer) {
  if (panic || stopped) return;
  let message;
  try {
    message = decode(buffer);
  } catch {
    figures.undecoded++; // one bad message must not end a session
    return;
  }
  const { type, ptsUs, bytes } = message;
  if (type === AUDIO) {
    const pcm = bytes.slice().buffer;
    speaker.postMessage({ pcm, at: Math.round((ptsUs * SAMPLE_RATE) / 1e6) }, [pcm]);
  } else if (type === VIDEO) {
    onPicture(ptsUs, bytes);
  }
}

async function onPicture(ptsUs, bytes) {
  figures.received++;
  if (decoding >= DECODES_MAX) {
    figures.undecoded++;
    return;
  }
  decoding++;
  try {
    const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    if (panic || stopped) picture.close();
    else queue.add({ ptsUs, picture });
  } catch {
    figures.undecoded++; // not a picture: the one before stays until it is stale
  } finally {
    decoding--;
  }
}

function onPlayed(played) {
  sound = played;
  clock.update(played, now());
}

function latency({ ms }) {
  clock.latencyMs = ms;
}

// --- the view ------------------------------------------------------------------------------------------------------

function draw() {
  if (stopped) return;
  const at = now();
  const clockUs = clock.now(at);
  const frame = clockUs === null || panic ? null : queue.take(clockUs);
  if (frame) show(frame, clockUs, at);
  self.requestAnimationFrame(draw);
}

function show({ ptsUs, picture }, clockUs, at) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  screen.drawImage(picture, 0, 0);
  picture.close();
  lastNewMs = at;
  shownPtsUs = ptsUs;
  figures.show(capture.ageMs(ptsUs, at), Number.isFinite(clockUs) ? (clockUs - ptsUs) / 1000 : null);
}

function blank() {
  queue.clear();
  screen.fillStyle = "#0b0e13";
  screen.fillRect(0, 0, canvas.width, canvas.height);
}

function watch() {
  if (stopped) return;
  dropDeadSocket();
  const fresh = panic ? "panic" : freshness(now(), lastNewMs);
  if (fresh === view) return;
  view = fresh;
  if (fresh === "blank") blank();
  postMessage({ op: "view", state: fresh });
}

function setPanic({ on }) {
  panic = on;
  if (on) {
    lastNewMs = -Infinity;
    blank();
    speaker.postMessage({ clear: true });
  }
  say({ type: "panic", on });
  watch();
}

// --- figures -------------------------------------------------------------------------------------------------------

function report() {
  if (stopped) return;
  const figure = figures.close(now(), queue.late);
  postMessage({ op: "stats", ...figure, sound, waiting: queue.length });
  if (sound?.positionUs == null || figure.delayMs === null) return; // nothing was heard, or nothing shown
  say({
    type: "playback",
    audio_us: Math.round(sound.positionUs),
    video_us: shownPtsUs,
    buffered_us: Math.round(sound.bufferedMs * 1000),
    underruns: sound.underruns,
    e2e_us: Math.round(Math.max(0, figure.delayMs) * 1000),
  });
}
