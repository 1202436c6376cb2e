"""The figures of a demo run, as `metrics.json` has them."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ops.demo.live import Performance, Played
from ops.demo.measure import PictureFigures, SoundFigures
from ops.demo.player import Heard, Seen, Showing, play
from ops.demo.publish import Recording
from schemas.events import AudioProcessed, FrameRejected, VideoDropped, VideoProcessed
from schemas.media import pcm_duration_us

Metrics = dict[str, Any]


def metrics(performance: Performance, pictures: PictureFigures, sound: SoundFigures) -> Metrics:
    """Return everything that was measured; absent figures are null. Milliseconds, unless a key says otherwise."""
    played = performance.main
    recording = played.recording
    frames = recording.of("video")
    frames_in = sum(sent.due.kind == "video" for sent in recording.sent)
    video = [event for event in played.events if isinstance(event, VideoProcessed)]
    audio = [event for event in played.events if isinstance(event, AudioProcessed)]
    showing = player(recording)
    return {
        "seconds": played.script.seconds,
        "frames_in": frames_in,
        "frames_out": len(frames),
        "frames_dropped": frames_in - len(frames),
        "drop_reasons": drop_reasons(played, frames_in - len(frames)),
        "outcomes": {
            "video": dict(Counter(event.outcome for event in video)),
            "voice": dict(Counter(event.outcome for event in audio)),
        },
        "fps_out": round(len(frames) / played.script.seconds, 2),
        "stage_ms": {"video": stages(video), "voice": stages(audio)},
        "stage_ms_512_synthetic": {"video": stages(_frames(performance.synthetic))},
        "added_latency_ms": percentiles(added_latency_ms(played), 50, 99),
        "send_to_receipt_ms": percentiles(send_to_receipt_ms(recording), 50, 99),
        "audio_ratio": percentiles([event.runtime_us / event.duration_us for event in audio], 50, 95, digits=3),
        "av_skew_ms": skew(showing),
        "underruns": showing.underruns,
        "playout_delay_ms": playout_delay_ms(recording, showing),
        "voice_similarity": {"before": sound.before, "after": sound.after},
        "raw_frames_leaked": pictures.leaked,
        "raw_sound_windows_leaked": sound.leaked,
        "frames_judged": pictures.judged,
        "identity": {"to_source": pictures.to_source, "to_original": pictures.to_original},
        "viewer": viewer(recording),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
    }


def _frames(played: Played | None) -> list[VideoProcessed]:
    return [event for event in (played.events if played else ()) if isinstance(event, VideoProcessed)]


def percentiles(values: Sequence[float], *wanted: int, digits: int = 1) -> dict[str, float | None]:
    """Return the percentiles of `values` as `p50` and so on, linear between neighbours; null for no values."""
    if not values:
        return {f"p{percent}": None for percent in wanted}
    found = np.percentile(np.asarray(values, np.float64), wanted)
    return {f"p{percent}": round(float(value), digits) for percent, value in zip(wanted, found, strict=True)}


def stages(events: Sequence[VideoProcessed | AudioProcessed]) -> dict[str, dict[str, float | None]]:
    """Return p50, p95 and p99 of each stage in ms, over the frames or chunks in which it ran; `total` is all of it."""
    names = dict.fromkeys(stage for event in events for stage in event.stages_us)
    spent = {name: [event.stages_us[name] / 1000 for event in events if name in event.stages_us] for name in names}
    spent["total"] = [event.runtime_us / 1000 for event in events]
    return {name: percentiles(values, 50, 95, 99, digits=2) for name, values in spent.items()}


def send_to_receipt_ms(recording: Recording) -> list[float]:
    """Return, for every frame that came back, the time from its send to its receipt."""
    sent = {entry.due.pts_us: entry.at_us for entry in recording.sent if entry.due.kind == "video"}
    return [(arrival.at_us - sent[arrival.media.pts_us]) / 1000 for arrival in recording.of("video")]


def added_latency_ms(played: Played) -> list[float]:
    """Return the same, minus the engine's own runtime: what the pipeline around the engine adds.

    Events speak the session's time and the publisher its own; the second connection, which got the same frames in the
    session's time, says how far apart the two are.
    """
    recording = played.recording
    own = {arrival.media.seq: arrival.media.pts_us for arrival in recording.of("video")}
    offsets = {
        arrival.media.pts_us - own[arrival.media.seq]
        for arrival in recording.viewed
        if arrival.media.kind == "video" and arrival.media.seq in own
    }
    if len(offsets) != 1:
        return []
    offset_us = offsets.pop()
    runtime = {
        event.pts_us - offset_us: event.runtime_us for event in played.events if isinstance(event, VideoProcessed)
    }
    arrivals = zip(recording.of("video"), send_to_receipt_ms(recording), strict=True)
    return [spent - runtime[one.media.pts_us] / 1000 for one, spent in arrivals if one.media.pts_us in runtime]


def drop_reasons(played: Played, missing: int) -> dict[str, int]:
    """Return why frames did not come back; `unreported` is what no event explains.

    Such as a picture that waited to be sent when a newer one took its place.
    """
    reasons: Counter[str] = Counter()
    for event in played.events:
        match event:
            case VideoDropped():
                reasons[event.reason] += 1
            case FrameRejected(media="video"):
                reasons[f"rejected: {event.reason}"] += 1
            case _:
                pass
    unexplained = missing - reasons.total()
    return dict(reasons) | ({"unreported": unexplained} if unexplained > 0 else {})


def player(recording: Recording) -> Showing:
    """Return what a player would have presented of what came back."""
    heard = [Heard(one.at_us, one.media.pts_us, pcm_duration_us(one.media.data)) for one in recording.of("audio")]
    return play(heard, [Seen(one.at_us, one.media.pts_us) for one in recording.of("video")])


def skew(showing: Showing) -> dict[str, float | None]:
    """Return picture against sound in ms: the signed median, and the 95th percentile by size with its sign."""
    by_size = sorted(showing.skew_us, key=abs)
    if not by_size:
        return {"p50": None, "p95": None}
    worst = by_size[min(len(by_size) - 1, round(0.95 * (len(by_size) - 1)))]
    return percentiles([value / 1000 for value in showing.skew_us], 50) | {"p95": round(worst / 1000, 1)}


def playout_delay_ms(recording: Recording, showing: Showing) -> float | None:
    """Return how long after it was spoken sound plays, with the player's buffer; pictures wait for it."""
    sound = recording.of("audio")
    if not sound:
        return None
    return round((showing.started_us - recording.started_us - sound[0].media.pts_us) / 1000, 1)


def viewer(recording: Recording) -> dict[str, Any]:
    """Return what the second connection got: how many frames, and whether each is the publisher's byte for byte."""
    own = {arrival.media.seq: arrival.media.data for arrival in recording.of("video")}
    seen = [arrival.media for arrival in recording.viewed if arrival.media.kind == "video"]
    return {"frames": len(seen), "identical": all(own.get(one.seq, one.data) == one.data for one in seen)}
