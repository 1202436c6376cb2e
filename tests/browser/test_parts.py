"""The studio's pure parts, run in the browser that they are for."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from ingress.thinning import Thinner
from schemas import wire
from tests.browser.system import RunningSystem


@pytest.fixture(scope="module")
def page(running_system: RunningSystem, browser: Browser) -> Iterator[Page]:
    """Open a page that can import the studio's modules."""
    page = browser.new_page()
    page.goto(running_system.url)
    yield page
    page.close()


EDGES = [0, 1, 127, 128, 255, 65_535, 65_536, 2**31, 2**32 - 1, 2**32, 2**53 - 1, -1, -32, -33, -129, -40_000, -(2**40)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 200_000])
def test_wire_messages_of_any_payload_size_are_the_same_on_both_sides(page: Page, size: int) -> None:
    """What the page writes the service reads, and the other way round."""
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    theirs = page.evaluate(
        """async ([text]) => {
          const { encode } = await import("/static/wire.js");
          const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
          return Array.from(encode(1, 40_000, 7, bytes), (byte) => String.fromCharCode(byte)).join("");
        }""",
        [base64.b64encode(payload).decode()],
    )
    read = wire.decode(theirs.encode("latin-1"), max_bytes=1 << 20)
    assert read == wire.MediaMessage(wire.MediaType.VIDEO, 40_000, 7, payload)

    ours = wire.encode(wire.MediaMessage(wire.MediaType.AUDIO, -12_000, 9, payload))
    message = _decode(page, ours)
    assert (message["type"], message["ptsUs"], message["seq"]) == (2, -12_000, 9)
    assert message["text"].encode("latin-1") == payload


def test_wire_keeps_every_number_that_a_double_holds(page: Page) -> None:
    """Media times survive both ways at the edges of every integer width, negative ones too."""
    for number in EDGES:
        ours = wire.encode(wire.MediaMessage(wire.MediaType.VIDEO, number, abs(number), b"x"))
        message = _decode(page, ours)
        assert (message["ptsUs"], message["seq"]) == (number, abs(number))
    written = page.evaluate(
        """async (numbers) => {
          const { encode } = await import("/static/wire.js");
          return numbers.map((number) => Array.from(encode(2, number, Math.abs(number), new Uint8Array(1))));
        }""",
        EDGES,
    )
    for number, raw in zip(EDGES, written, strict=True):
        assert wire.decode(bytes(raw), max_bytes=64)[1:3] == (number, abs(number))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x93\x01\x02\x03",
        b"\x94\x01\x02",
        b"\x94\x01\x02\x03\xc4\x05ab",
        b"\x94\x01\x02\x03\xc4\x01abc",
        b"\x94\x01\x02\x03\xa1a",
        b"\x94\xc0\x02\x03\xc4\x00",
        b"\x94\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x03\xc4\x00",
    ],
)
def test_wire_refuses_what_is_no_message(page: Page, raw: bytes) -> None:
    """Cut, padded and foreign bytes are a `WireError`, never a wrong frame."""
    assert (
        page.evaluate(
            """async (bytes) => {
          const { decode, WireError } = await import("/static/wire.js");
          try { decode(Uint8Array.from(bytes).buffer); return "accepted"; }
          catch (error) { return error instanceof WireError ? "refused" : error.name; }
        }""",
            list(raw),
        )
        == "refused"
    )


def _decode(page: Page, raw: bytes) -> dict[str, Any]:
    message: dict[str, Any] = page.evaluate(
        """async ([text]) => {
          const { decode } = await import("/static/wire.js");
          const { bytes, ...rest } = decode(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
          return { ...rest, text: Array.from(bytes, (byte) => String.fromCharCode(byte)).join("") };
        }""",
        [base64.b64encode(raw).decode()],
    )
    return message


# Plays `seconds` of 192 ms chunks. `delays` are [from chunk number, ms between its last sample and its arrival].
SIMULATE = """async ({ seconds, delays, lost = [] }) => {
  const { JitterBuffer } = await import("/static/jitter-buffer.js");
  const RATE = 16000, CHUNK = 3072, QUANTUM = 128;
  const buffer = new JitterBuffer(RATE);
  const arrivals = [];
  for (let n = 0; (n + 1) * CHUNK < seconds * RATE; n++) {
    if (lost.includes(n)) continue;
    const last = delays.findLast(([from]) => n >= from);
    arrivals.push([(n + 1) * CHUNK + (last[1] / 1000) * RATE, n]);
  }
  arrivals.sort((one, other) => one[0] - other[0]);
  const tone = (at) => 0.5 * Math.sin((2 * Math.PI * 200 * at) / RATE);
  const out = new Float32Array(QUANTUM);
  let silent = 0, step = 0, before = 0, started = false;
  const lag = [];
  for (let now = 0; now < seconds * RATE; now += QUANTUM) {
    while (arrivals.length > 0 && arrivals[0][0] <= now) {
      const at = arrivals.shift()[1] * CHUNK;
      buffer.put(at, Float32Array.from({ length: CHUNK }, (_, i) => tone(at + i)));
    }
    buffer.pull(out);
    started ||= buffer.running;
    for (const value of out) { step = Math.max(step, Math.abs(value - before)); before = value; }
    if (started && out.every((value) => value === 0)) silent += QUANTUM;
    if (buffer.running && now % (RATE / 5) < QUANTUM) lag.push(((now - buffer.position) / RATE) * 1000);
  }
  const { underruns, gaps, late, jumps } = buffer;
  return { underruns, gaps, late, jumps, silentMs: (silent / RATE) * 1000, step, lag };
}"""


def test_sound_that_comes_steadily_plays_without_a_gap_at_once_and_at_little_delay(page: Page) -> None:
    """A 192 ms chunk every 192 ms: no interruption, and barely more delay than the chunk itself."""
    played = page.evaluate(SIMULATE, {"seconds": 20, "delays": [[0, 100]]})
    assert (played["underruns"], played["gaps"], played["late"], played["jumps"]) == (0, 0, 0, 0)
    assert played["silentMs"] == 0
    assert max(played["lag"]) < 192 + 100 + 100


def test_after_a_stall_the_delay_comes_back_down(page: Page) -> None:
    """An interruption raises the delay, and reading 4 % fast takes it back: it does not ratchet up."""
    played = page.evaluate(SIMULATE, {"seconds": 40, "delays": [[0, 50], [20, 600], [22, 50], [60, 500], [62, 50]]})
    assert played["underruns"] == 2
    assert max(played["lag"]) > 700
    assert played["lag"][-1] < 192 + 50 + 280  # one and a half times the slack that two interruptions made of 80 ms


def test_jitter_that_grows_is_answered_before_it_is_heard(page: Page) -> None:
    """Chunks come later and later, 5 ms each, up to a quarter of a second: the delay follows, nothing runs dry."""
    played = page.evaluate(SIMULATE, {"seconds": 30, "delays": [[n, 5 * n] for n in range(50)]})
    assert played["underruns"] == 0
    assert max(played["lag"]) > 192 + 250


def test_lost_sound_is_silence_of_its_length_and_moves_nothing(page: Page) -> None:
    """A chunk that never comes while later ones wait leaves a hole; what follows plays on time."""
    played = page.evaluate(SIMULATE, {"seconds": 12, "delays": [[0, 50], [20, 300], [21, 0]], "lost": [30]})
    whole = page.evaluate(SIMULATE, {"seconds": 12, "delays": [[0, 50], [20, 300], [21, 0]]})
    assert played["lag"][-1] == pytest.approx(whole["lag"][-1], abs=60)
    assert played["gaps"] + played["underruns"] > whole["gaps"] + whole["underruns"]


def test_starting_and_stopping_do_not_click(page: Page) -> None:
    """No two neighbouring samples are further apart than a fast fade explains."""
    played = page.evaluate(SIMULATE, {"seconds": 12, "delays": [[0, 50], [20, 700], [24, 50]]})
    assert played["underruns"] >= 1
    assert played["step"] < 0.1


def test_frames_wait_for_their_sound_and_older_ones_are_let_go(page: Page) -> None:
    """Whatever the order of arrival: the newest at or before the clock is shown, never one older than the last."""
    seen = page.evaluate(
        """async () => {
          const { FrameQueue } = await import("/static/presentation.js");
          const queue = new FrameQueue(), closed = [], shown = [];
          const add = (ptsUs) => queue.add({ ptsUs, picture: { close: () => closed.push(ptsUs) } });
          for (const ptsUs of [100, 300, 200]) add(ptsUs);
          for (const clock of [50, 250, 250, 300]) shown.push(queue.take(clock)?.ptsUs ?? null);
          add(250);
          for (let n = 0; n < 70; n++) add(1000 + n);
          return { shown, closed: closed.slice(0, 2), late: queue.late, length: queue.length };
        }"""
    )
    assert seen == {"shown": [None, 200, None, 300], "closed": [100, 250], "late": 12, "length": 60}


def test_the_clock_follows_the_sound_halts_with_it_and_lets_go_of_it_when_it_is_lost(page: Page) -> None:
    """Between reports it runs on; in a short interruption pictures wait; without sound they are shown as they come."""
    read = page.evaluate(
        """async () => {
          const { AudioClock } = await import("/static/presentation.js");
          const clock = new AudioClock(), seen = [];
          const see = (now) => { const at = clock.now(now); seen.push(at === Infinity ? "newest" : at); };
          see(0);
          clock.update({ positionUs: 1_000_000, running: true }, 100);
          see(110);
          clock.latencyMs = 20;
          see(110);
          clock.update({ positionUs: 1_200_000, running: false }, 300);
          see(400); see(700);
          return seen;
        }"""
    )
    assert read == ["newest", 1_010_000, 990_000, None, "newest"]


def test_nothing_new_freezes_the_view_and_blanks_it_after_a_second(page: Page) -> None:
    read = page.evaluate(
        """async () => {
          const { freshness } = await import("/static/presentation.js");
          return [0, 299, 300, 999, 1000, 5000].map((age) => freshness(10_000 + age, 10_000));
        }"""
    )
    assert read == ["live", "live", "frozen", "frozen", "blank", "blank"]


@pytest.mark.parametrize(("camera", "wanted"), [(30, 20), (30, 15), (60, 20), (15, 20), (25, 20)])
def test_the_camera_is_thinned_evenly_to_the_rate_in_force(page: Page, camera: int, wanted: int) -> None:
    """At most the wanted rate, and never slower than the camera allows."""
    sent = page.evaluate(
        """async ([camera, wanted]) => {
          const { Pacer } = await import("/static/pacing.js");
          const pacer = new Pacer();
          pacer.fps = wanted;
          let sent = 0;
          for (let n = 0; n < camera * 20; n++) if (pacer.admit((n * 1000) / camera + ((n * 7) % 5))) sent++;
          return sent / 20;
        }""",
        [camera, wanted],
    )
    assert sent == pytest.approx(min(camera, wanted), rel=0.04)


@pytest.mark.parametrize("camera", [20, 24, 30, 60])
def test_what_the_page_sends_the_service_has_nothing_to_thin_of(page: Page, camera: int) -> None:
    """A camera that jitters by up to 12 ms, at 20, 18 and 15 fps, and back: every frame that the page lets through."""
    sent = page.evaluate(
        """async (camera) => {
          const { Pacer } = await import("/static/pacing.js");
          const pacer = new Pacer(), sent = [];
          for (let n = 0; n < camera * 50; n++) {
            pacer.fps = [20, 18, 15, 18, 20][Math.floor(n / (camera * 10))];
            const at = (n * 1000) / camera + ((n * 7919) % 13);
            if (pacer.admit(at)) sent.push([Math.round(at * 1000), pacer.fps]);
          }
          return sent;
        }""",
        camera,
    )
    assert len(sent) == pytest.approx(10 * (20 + 18 + 15 + 18 + 20), abs=6)
    thinner = Thinner()
    assert all(thinner.admit(pts_us, fps) for pts_us, fps in sent)


def test_what_is_reduced_is_said_in_words(page: Page) -> None:
    """A rule that this page does not know yet is a busy service, never its name; what is well is not mentioned."""
    said = page.evaluate(
        """async () => {
          const { videoLine, voiceLine, delayLine, recordingLabel, recordingLine } =
            await import("/static/condition.js");
          const low = { rung: 6, fps: 15, size: 384, quality: 55 };
          const known = ["video.slow", "video.drops", "video.late", "video.up", "some.rule", "audio.grow", undefined];
          return {
            video: known.map((reason) => videoLine({ ...low, reason })),
            well: [videoLine({ rung: 0 }), voiceLine("on"), recordingLabel(false, null), recordingLine(null),
              delayLine({ soft_skip: 0, latency_missed_ms: null, overloaded_pm: null })],
            back: [videoLine({ rung: 0 }, 1), voiceLine("on", "silent")],
            through: voiceLine("through"),
            overloaded: delayLine({ soft_skip: 0, latency_missed_ms: null, overloaded_pm: 1200 }),
            unknown: recordingLabel(true, { state: "elsewhere", missed: 0 }),
          };
        }"""
    )
    assert "the worker is over budget" in said["video"][0]
    assert "pictures were dropped" in said["video"][1]
    assert "fell behind the sound" in said["video"][2]
    assert "getting better again: 15 fps, 384 px" in said["video"][3]
    assert all(line.startswith("Video reduced to 15 fps, 384 px, JPEG quality 55: ") for line in said["video"][:3])
    assert set(said["video"][4:]) == {
        "Video reduced to 15 fps, 384 px, JPEG quality 55: the service is busy. It recovers by itself."
    }
    assert said["well"] == [""] * 5
    assert said["back"] == ["Video is back at full quality.", "The voice is converted again."]
    assert "unconverted" in said["through"]
    assert "over budget" in said["overloaded"]
    assert said["unknown"] == "elsewhere"


def test_a_session_that_the_service_gave_up_is_not_tried_again(page: Page) -> None:
    """Whether the connection is closed with it, or the way back is refused with it."""
    ends = page.evaluate(
        """async () => {
          const { explainEnd } = await import("/static/endings.js");
          return [explainEnd(4410, "abandoned"), explainEnd(4404, "abandoned"), explainEnd(4410), explainEnd(1006)];
        }"""
    )
    assert [end["resume"] for end in ends] == [False, False, False, True]
    assert {end["title"] for end in ends[:3]} == {"The service gave the session up"}


@pytest.mark.parametrize(
    ("camera", "size", "sent"),
    [
        ((640, 480), 512, [512, 384]),
        ((480, 640), 256, [192, 256]),
        ((320, 240), 512, [320, 240]),
        ((1280, 720), 0, [1280, 720]),
    ],
)
def test_pictures_keep_their_shape_and_are_never_enlarged(
    page: Page, camera: tuple[int, int], size: int, sent: list[int]
) -> None:
    assert sent == page.evaluate(
        """async ([width, height, size]) => (await import("/static/pacing.js")).sendSize(width, height, size)""",
        [*camera, size],
    )


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_the_resampler_keeps_speech_and_removes_what_16_khz_cannot_hold(page: Page, rate: int) -> None:
    """1 kHz passes at its level; 11 kHz would fold to 5 kHz, and is 60 dB down; the length is right."""
    measured = page.evaluate(
        """async (rate) => {
          const { Resampler } = await import("/static/resampler.js");
          const level = (hertz) => {
            const resampler = new Resampler(rate, 16000), out = [];
            for (let n = 0; n < rate; n += 128) {
              out.push(...resampler.push(Float32Array.from({ length: 128 }, (_, i) =>
                Math.sin((2 * Math.PI * hertz * (n + i)) / rate))));
            }
            const steady = out.slice(1000);
            return [Math.sqrt(2 * steady.reduce((sum, value) => sum + value * value, 0) / steady.length), out.length];
          };
          return { pass: level(1000), stop: level(11000)[0] };
        }""",
        rate,
    )
    assert measured["pass"][0] == pytest.approx(1, abs=0.01)
    assert measured["pass"][1] == pytest.approx(16_000, abs=130)
    if rate > 22_000:
        assert measured["stop"] < 0.001


def test_every_ending_is_explained_and_only_a_service_that_may_come_back_is_waited_for(page: Page) -> None:
    codes = [*wire.Close, 1001, 1006, 1012]
    told = page.evaluate(
        """async (codes) => {
          const { explainEnd } = await import("/static/endings.js");
          return codes.map((code) => explainEnd(code));
        }""",
        [int(code) for code in codes],
    )
    assert all(end["title"] and end["fix"] for end in told)
    assert [int(code) for code, end in zip(codes, told, strict=True) if end["resume"]] == [1001, 1006, 1012]
