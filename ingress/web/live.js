// One live session, from the camera to its end: devices, session, worker, reconnects. Tells the page what happens.
//
//   asking → starting → live ⇄ reconnecting → ended
//
// A lost connection is resumed with a new connect token for as long as the service keeps the session.

import { ApiError } from "./api.js";
import { named, openDevices } from "./devices.js";
import { explainEnd } from "./endings.js";
import { Sound } from "./sound.js";

const RESUME_MS = 30_000; // the service keeps a session this long without its publisher
const RETRY_MS = [300, 700, 1500, 3000];
const LATENCY_EVERY_MS = 1000;

export class Live {
  #api;
  #tell;
  #stream = null;
  #sound = null;
  #worker = null;
  #sid = null;
  #url = null;
  #lostAt = null;
  #attempt = 0;
  #latencyTimer = 0;
  #early = null; // what was changed before there was a worker to tell
  #ending = null; // what `bye` announced
  state = "new";

  /** `tell` has: state(name, detail), server(message), stats(figures), view(state), level(value), hang(). */
  constructor(api, tell) {
    this.#api = api;
    this.#tell = tell;
  }

  /** Opens devices, shows them in `preview`, creates a session with `wishes` and goes live on `canvas`. */
  async start({ camera, microphone, wishes, preview, canvas }) {
    try {
      this.#enter("asking");
      this.#stream = await openDevices({ camera, microphone, onHang: this.#tell.hang });
      if (this.state === "ended") return this.#release(); // stopped while the browser asked
      this.#watchTracks();
      preview.srcObject = this.#stream;
      this.#enter("starting");
      const session = await this.#api.createSession(wishes);
      this.#sid = session.sid;
      if (this.state === "ended") return this.#leave(); // stopped meanwhile
      this.#url = socketUrl(session.url);
      this.#sound = new Sound();
      const ports = await this.#sound.start(this.#stream);
      if (this.state === "ended") return this.#release();
      this.#startWorker(ports, preview, canvas);
      this.#post({ op: "socket", url: this.#url, token: session.token });
    } catch (error) {
      this.#end({ error });
    }
  }

  stop() {
    if (this.state === "new" || this.state === "ended") return;
    this.#end({});
  }

  panic(on) {
    this.#post({ op: "panic", on });
  }

  /** Wears something else; what is changed before there is a session to tell, it wears as soon as it is live. */
  change(settings) {
    if (this.#worker) this.#post({ op: "settings", change: settings });
    else this.#early = { ...this.#early, ...settings };
  }

  audible(on) {
    this.#sound?.audible(on);
  }

  #enter(state, detail = {}) {
    this.state = state;
    this.#tell.state(state, detail);
  }

  #watchTracks() {
    for (const track of this.#stream.getTracks()) {
      track.onended = () => this.#end({ error: named("Ended"), device: track.kind });
    }
  }

  // --- worker ------------------------------------------------------------------------------------------------------

  #startWorker(ports, preview, canvas) {
    this.#worker = new Worker("/static/media-worker.js", { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#worker.onerror = (event) => this.#end({ error: new Error(event.message || "the media worker failed") });
    const offscreen = canvas.transferControlToOffscreen();
    const frames = this.#frames(preview);
    const transfer = [offscreen, ports.microphone, ports.speaker, ...(frames ? [frames] : [])];
    this.#worker.postMessage({ op: "start", canvas: offscreen, frames, ...ports }, transfer);
    if (this.#early) this.change(this.#early);
    this.#latencyTimer = setInterval(() => {
      this.#post({ op: "latency", ms: this.#sound.latencyMs });
    }, LATENCY_EVERY_MS);
  }

  // Returns the camera as a stream for the worker; where the browser has none, hands frames over one by one.
  #frames(preview) {
    const [track] = this.#stream.getVideoTracks();
    if ("MediaStreamTrackProcessor" in window) {
      return new MediaStreamTrackProcessor({ track, maxBufferSize: 1 }).readable;
    }
    const next = async () => {
      if (this.state === "ended") return;
      const picture = await createImageBitmap(preview).catch(() => null);
      if (picture) this.#worker?.postMessage({ op: "frame", picture }, [picture]);
      preview.requestVideoFrameCallback(next);
    };
    preview.requestVideoFrameCallback(next);
    return null;
  }

  #post(message) {
    this.#worker?.postMessage(message);
  }

  #heard(data) {
    if (this.state === "ended") return;
    if (data.op === "server") this.#served(data.message);
    else if (data.op === "closed") this.#closed(data);
    else if (data.op === "stats") this.#tell.stats(data);
    else if (data.op === "view") this.#tell.view(data.state);
    else if (data.op === "level") this.#tell.level(data.value);
  }

  #served(message) {
    if (message.type === "ready") {
      this.#lostAt = null;
      this.#attempt = 0;
      this.#enter("live", { sid: this.#sid });
    } else if (message.type === "expiring") {
      this.#refresh();
    } else if (message.type === "bye") {
      this.#ending = message;
    }
    this.#tell.server(message);
  }

  async #refresh() {
    try {
      const { token } = await this.#api.connect(this.#sid);
      this.#post({ op: "refresh", token });
    } catch {
      // the service closes with 4401 when the time is over, and that is explained there
    }
  }

  // --- reconnect ---------------------------------------------------------------------------------------------------

  #closed({ code, reason }) {
    const told = this.#ending;
    this.#ending = null;
    const end = explainEnd(told?.code ?? code, told?.reason || reason);
    if (!end.resume) return this.#end({ end });
    this.#lostAt ??= performance.now();
    if (performance.now() - this.#lostAt > RESUME_MS) return this.#end({ end });
    this.#enter("reconnecting");
    setTimeout(() => this.#reconnect(), RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)]);
  }

  async #reconnect() {
    if (this.state === "ended") return;
    try {
      const { token } = await this.#api.connect(this.#sid);
      this.#post({ op: "socket", url: this.#url, token });
    } catch (error) {
      const final = error instanceof ApiError && [401, 403, 404, 410].includes(error.status);
      if (final && error.status !== 404) this.#end({ error });
      else this.#closed({ code: final ? 4404 : 1006, reason: error.code });
    }
  }

  // --- end ---------------------------------------------------------------------------------------------------------

  #end(detail) {
    if (this.state === "ended") return;
    this.#enter("ended", detail);
    this.#release();
    if (!detail.end) this.#leave();
  }

  // Ends the session on the service, which had not ended it. Where this does not get through, its deadline will.
  #leave() {
    if (this.#sid) this.#api.end(this.#sid).catch(() => {});
  }

  #release() {
    clearInterval(this.#latencyTimer);
    for (const track of this.#stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    const worker = this.#worker;
    this.#worker = null;
    worker?.postMessage({ op: "stop" });
    setTimeout(() => worker?.terminate(), 500); // time to blank the view and to close the socket in order
    this.#sound?.close().catch(() => {});
  }
}

function socketUrl(url) {
  const absolute = new URL(url, location.href);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}
