"""Plays a clip and speech into a session in real time, as a camera and a microphone do, and keeps all that comes back.

A frame is sent at its media time; a piece of sound when its last sample has been spoken. Both follow one monotonic
schedule, so lateness of one send never adds to the next.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingress.thinning import Thinner
from ops.client import Kind, MirageClient, ReceivedMedia, SessionConnection
from ops.demo.footage import FPS, FRAME_US, Clip
from schemas.errors import MirageError
from workers.voice.engine import SAMPLE_RATE, Pcm

PIECE_US = 20_000
"""Microphones deliver about this much at a time."""
_QUIET_S = 1.0
"""When nothing has come for this long after the last send, nothing more will."""
_DRAIN_S = 4.0
_POLL_S = 0.05


class Due(NamedTuple):
    """One thing to send: when, in us after the start, what, which one, and its media time in us."""

    at_us: int
    kind: Kind
    number: int
    pts_us: int


class Jam(NamedTuple):
    """While the publisher's clock is in this span, its frames get through late; times in us."""

    from_us: int
    to_us: int
    late_us: int


@dataclass(frozen=True, slots=True)
class Script:
    """What is played."""

    clip: Clip
    speech: Pcm
    seconds: float
    jam: Jam | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """One send, at monotonic time `at_us`, before the message was handed to the socket."""

    due: Due
    seq: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message with media, received at monotonic time `at_us`."""

    at_us: int
    media: ReceivedMedia


@dataclass(slots=True)
class Recording:
    """All that went in and came back."""

    sid: str
    started_us: int = 0
    sent: list[Departure] = field(default_factory=list)
    arrived: list[Arrival] = field(default_factory=list)
    viewed: list[Arrival] = field(default_factory=list)
    """What a second connection got, which only watches: in the session's time."""
    complaints: list[str] = field(default_factory=list)
    """`error` messages of the server."""

    def of(self, kind: Kind) -> list[Arrival]:
        """Return what came back of one kind, in order of arrival."""
        return [arrival for arrival in self.arrived if arrival.media.kind == kind]


def schedule(seconds: float, jam: Jam | None = None) -> Iterator[Due]:
    """Yield the frames and pieces of sound of `seconds`, in order of their times; sound first where they coincide.

    Frames that a jam held up go out before later ones: the last of them together with those that caught up with them.
    """
    pieces = range(round(seconds * 1_000_000) // PIECE_US)
    sound = (Due((piece + 1) * PIECE_US, "audio", piece, piece * PIECE_US) for piece in pieces)
    return heapq.merge(sound, _frames(seconds, jam), key=lambda due: (due.at_us, due.kind))


def _frames(seconds: float, jam: Jam | None) -> Iterator[Due]:
    at_us = 0
    for frame in range(round(seconds * FPS)):
        pts_us = frame * FRAME_US
        held_us = jam.late_us if jam and jam.from_us <= pts_us < jam.to_us else 0
        at_us = max(at_us, pts_us + held_us)
        yield Due(at_us, "video", frame, pts_us)


async def perform(
    client: MirageClient, recording: Recording, script: Script, progress: Callable[[float], None]
) -> None:
    """Play `script` into the session and fill `recording`; `progress` is told the seconds that were sent.

    Raises the `MirageError` that ended a connection early. The session is left open.
    """
    publisher = await client.connect(recording.sid, "publish")
    async with publisher, await client.connect(recording.sid, "view") as viewer:
        listening = [
            asyncio.create_task(_listen(publisher, recording.arrived, recording.complaints)),
            asyncio.create_task(_listen(viewer, recording.viewed, recording.complaints)),
        ]
        sending = asyncio.create_task(_send(publisher, recording, script, progress))
        try:
            await asyncio.wait([sending, *listening], return_when=asyncio.FIRST_COMPLETED)
            for task in listening:
                if task.done():
                    task.result()
                    raise MirageError("the server ended the session while it was being played into")
            await sending
            await _drained(recording)
        finally:
            for task in (sending, *listening):
                task.cancel()
            await asyncio.gather(sending, *listening, return_exceptions=True)


async def _send(
    publisher: SessionConnection, recording: Recording, script: Script, progress: Callable[[float], None]
) -> None:
    piece_samples, camera = PIECE_US * SAMPLE_RATE // 1_000_000, Thinner()
    recording.started_us = monotonic_us()
    for due in schedule(script.seconds, script.jam):
        wait_us = recording.started_us + due.at_us - monotonic_us()
        if wait_us > 0:
            await asyncio.sleep(wait_us / 1e6)
        at_us = monotonic_us()
        if due.kind == "video":
            if not camera.admit(due.pts_us, publisher.params["fps"]):
                continue
            seq = await publisher.send_video(due.pts_us, script.clip.jpegs[script.clip.index(due.number)])
            progress(due.at_us / 1e6)
        else:
            piece = script.speech[due.number * piece_samples : (due.number + 1) * piece_samples]
            seq = await publisher.send_audio(due.pts_us, piece.astype("<i2").tobytes())
        recording.sent.append(Departure(due, seq, at_us))


async def _listen(connection: SessionConnection, into: list[Arrival], complaints: list[str]) -> None:
    async for message in connection:
        if isinstance(message, ReceivedMedia):
            into.append(Arrival(monotonic_us(), message))
        elif message.get("type") == "error":
            complaints.append(_words(message))


def _words(message: dict[str, Any]) -> str:
    return f"{message.get('code')}: {message.get('detail')}"


async def _drained(recording: Recording) -> None:
    """Wait for what is still under way: until nothing has come for a while."""
    last_sent_us = due_us = monotonic_us()
    due_us += round(_DRAIN_S * 1e6)
    while monotonic_us() < due_us:
        last_us = max([last_sent_us, *(arrival.at_us for arrival in recording.arrived[-1:])])
        if monotonic_us() - last_us > _QUIET_S * 1e6:
            return
        await asyncio.sleep(_POLL_S)


def monotonic_us() -> int:
    """Return monotonic time in microseconds."""
    return time.monotonic_ns() // 1000
