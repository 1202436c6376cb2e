"""The input side of one publishing connection: guards, times, IDs, and the fenced write to the input streams."""

from collections.abc import Callable
from dataclasses import dataclass

from ingress.egress import Sent, SessionFeed
from ingress.in_force import InForce
from ingress.jpeg_guard import check_jpeg
from ingress.pcm import Chunk, Reframer, check_pcm
from ingress.settings import IngressSettings
from ingress.thinning import Thinner
from ingress.timeline import Timeline
from schemas.bus.base import Bus, Fence
from schemas.clock import Clock
from schemas.errors import Conflict, Fenced
from schemas.ids import EntryId, IdSource
from schemas.media import MediaHeader, pack, pcm_duration_us, unpack
from schemas.names import Kind, SessionKeys
from schemas.wire import MediaMessage, MediaType


def check_media(message: MediaMessage, settings: IngressSettings) -> None:
    """Check the payload of a message without decoding it; raises `InputRejected`."""
    if message.type is MediaType.AUDIO:
        check_pcm(message.data, max_ms=settings.max_sound_ms)
    else:
        check_jpeg(
            message.data,
            max_bytes=settings.max_frame_bytes,
            max_long_side=settings.max_long_side,
            max_short_side=settings.max_short_side,
        )


@dataclass(slots=True)
class _Track:
    """One input stream."""

    kind: MediaType
    stream: str
    ids: IdSource


class Publisher:
    """Writes one connection's media, as long as that connection is the session's newest publisher.

    What the feed says is in force may change at any time: the next frame or chunk is cut, thinned and stamped so.
    """

    def __init__(
        self,
        *,
        keys: SessionKeys,
        media: Bus,
        fence: Fence,
        timeline: Timeline,
        ids: dict[MediaType, IdSource],
        feed: SessionFeed,
        settings: IngressSettings,
        clock: Clock,
    ) -> None:
        """See `open_publisher`."""
        self.timeline = timeline
        self.thinned = 0
        """Frames that were left out, ever: the client sends more than the frame rate in force."""
        self._keys, self._media, self._fence = keys, media, fence
        self._feed, self._settings, self._clock = feed, settings, clock
        self._reframer = Reframer(feed.in_force.params.chunk_ms)
        self._thinner = Thinner()
        self._arrivals = Thinner(settings.rates.video_burst)
        self._audio_offset_us = 0
        self._tracks = {kind: _Track(kind, _stream(keys, kind), source) for kind, source in ids.items()}

    async def write(self, message: MediaMessage) -> None:
        """Publish a checked message: a frame, unless it is thinned, or the chunks that it fills.

        Raises `InputRejected` for a time that makes no sense, `Fenced` when another connection took over,
        `BusUnavailable` when the media plane does not answer: what was at hand is lost then.
        """
        state = self._feed.in_force  # one for the whole message: a chunk's stamp is the length that it was cut to
        if message.type is MediaType.VIDEO:
            mapped = self.timeline.map(message.type, message.pts_us)
            if mapped.stepped:
                self._thinner.restart()
            fps, now_us = state.params.fps, self._clock.monotonic_us()
            if not (self._thinner.admit(mapped.pts_us, fps) and self._arrivals.admit(now_us, fps)):
                self.thinned += 1
                return
            sent = Sent(message.seq, mapped.offset_us, self)
            await self._publish(self._tracks[message.type], mapped.pts_us, message.data, sent, state)
            return
        mapped = self.timeline.map(message.type, message.pts_us, pcm_duration_us(message.data))
        self._reframer.chunk_ms = state.params.chunk_ms
        if mapped.stepped:
            await self._chunks(self._reframer.break_run(), state)
            self._audio_offset_us = mapped.offset_us
        await self._chunks(self._reframer.push(mapped.pts_us, message.seq, message.data), state)

    def drop_sound(self) -> None:
        """Forget the sound that does not fill a chunk yet."""
        self._reframer.drop()

    async def current(self) -> bool:
        """Return whether this connection still is the newest publisher, as far as the server remembers."""
        return await self._media.epoch(self._fence.key, self._fence.kind) <= self._fence.epoch

    async def _chunks(self, chunks: list[Chunk], state: InForce) -> None:
        for chunk in chunks:
            sent = Sent(chunk.seq, self._audio_offset_us, self)
            await self._publish(self._tracks[MediaType.AUDIO], chunk.pts_us, chunk.data, sent, state)

    async def _publish(self, track: _Track, pts_us: int, data: bytes, sent: Sent, state: InForce) -> None:
        header = _header(state, pts_us=pts_us, sent_us=self._clock.now_ms() * 1000)
        try:
            await self._add(track, header, data, sent)
        except Conflict:
            # Another ingress with a faster clock wrote here before us: go on after its last ID.
            track.ids = IdSource(await self._media.last_id(track.stream), self._clock.now_ms)
            await self._add(track, header, data, sent)
        except Fenced:
            if not await self.current():
                raise
            # The media plane keeps nothing across a restart: no epoch means that it forgot ours, not that it ended.
            self._fence = await _newest(self._media, self._keys)
            await self._add(track, header, data, sent)

    async def _add(self, track: _Track, header: MediaHeader, data: bytes, sent: Sent) -> None:
        entry_id = track.ids.take()
        self._feed.remember(track.kind, entry_id, sent)
        keep_ms = self._settings.media_retention_s * 1000
        await self._media.publish(track.stream, entry_id, pack(header, data), fence=self._fence, keep_ms=keep_ms)


def _header(state: InForce, *, pts_us: int, sent_us: int) -> MediaHeader:
    params = state.params
    return MediaHeader(
        pts_us=pts_us,
        sent_us=sent_us,
        rung=params.rung,
        quality=params.quality,
        size=params.size,
        fps=params.fps,
        chunk_ms=params.chunk_ms,
        voice=state.voice,
    )


async def open_publisher(
    *,
    keys: SessionKeys,
    media: Bus,
    feed: SessionFeed,
    settings: IngressSettings,
    clock: Clock,
) -> Publisher:
    """Become the session's publisher: from here on, every older one is fenced. The session's time goes on.

    Raises `BusUnavailable`.
    """
    fence = await _newest(media, keys)
    ids = {kind: IdSource(await media.last_id(_stream(keys, kind)), clock.now_ms) for kind in MediaType}
    start_us = await _session_time(keys, media, clock.now_ms, settings.resume_s)
    return Publisher(
        keys=keys,
        media=media,
        fence=fence,
        timeline=Timeline(start_us),
        ids=ids,
        feed=feed,
        settings=settings,
        clock=clock,
    )


async def _newest(media: Bus, keys: SessionKeys) -> Fence:
    return Fence(keys.epoch, Kind.PUBLISH, await media.raise_epoch(keys.epoch, Kind.PUBLISH))


def _stream(keys: SessionKeys, kind: MediaType) -> str:
    return keys.video_in if kind is MediaType.VIDEO else keys.audio_in


async def _session_time(keys: SessionKeys, media: Bus, now_ms: Callable[[], int], resume_s: int) -> int:
    """Return where the session's time stands: the end of its last input, and the time that went by since."""
    end_us, last = 0, EntryId(0, 0)
    for kind in MediaType:
        for entry in await media.entries(_stream(keys, kind), count=1, newest_first=True):
            found = unpack(entry.id, entry.fields)
            long_us = pcm_duration_us(found.data) if kind is MediaType.AUDIO else 0
            end_us, last = max(end_us, found.header.pts_us + long_us), max(last, entry.id)
    away_ms = min(max(0, now_ms() - last.ms), resume_s * 1000) if last.ms else 0
    return end_us + away_ms * 1000
