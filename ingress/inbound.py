"""What one client sends: limits, scopes and guards for every message, and the queue to the media plane.

A message that is refused costs its sender a typed error and nothing else. Receiving never waits for the media plane:
what it cannot take in time is lost, oldest first, and the client is told how much.
"""

import asyncio
from collections import deque

import structlog

from ingress.control import PanicKey, PlaybackReport, SettingsWish, TokenRefresh, parse
from ingress.failures import ScopeMissing, body_of
from ingress.limits import ConnectionLimits
from ingress.peer import Peer
from ingress.publisher import Publisher, check_media
from ingress.settings_change import change_settings
from ingress.tokens import Scope
from schemas.errors import BusUnavailable, Fenced, InputRejected, MirageError, Refused, Throttled
from schemas.events import FrameRejected, Playback, RateLimited
from schemas.facts import PanicSet
from schemas.wire import Close, MediaMessage, MediaType, decode

log = structlog.get_logger(__name__)

MAX_WAITING = 64
"""Received messages that may wait for the media plane."""
_SCOPES = {MediaType.VIDEO: Scope.PUBLISH_VIDEO, MediaType.AUDIO: Scope.PUBLISH_AUDIO}
_CONTROL = "control"


class Inbound:
    """Takes one connection's messages."""

    def __init__(self, peer: Peer) -> None:
        """Start without messages."""
        self._peer = peer
        services = peer.services
        self._limits = (
            ConnectionLimits(services.settings.rates, services.clock)
            if peer.publisher is None
            else services.hub.limits(peer.record.sid, services.settings.rates)
        )
        self._waiting: deque[MediaMessage | PanicKey] = deque()
        self._arrived = asyncio.Event()

    def binary(self, data: bytes) -> None:
        """Take a binary message. Does not wait."""
        settings = self._peer.services.settings
        media = "unknown"
        try:
            self._limits.binary(len(data))
            message = decode(data, max_bytes=settings.max_frame_bytes)
            media = message.type.name.lower()
            self._limits.media(message)
            self._need(_SCOPES[message.type])
            check_media(message, settings)
        except MirageError as error:
            self._refuse(error, media)
            return
        if len(self._waiting) >= MAX_WAITING:
            # The oldest message goes; the end of panic, of which at most one waits, stays.
            del self._waiting[isinstance(self._waiting[0], PanicKey)]
            self._peer.lost += 1
        self._waiting.append(message)
        self._arrived.set()

    async def text(self, text: str) -> None:
        """Take a control message."""
        try:
            self._limits.control()
            message = parse(text)
            if message.NEEDS is not None:
                self._need(message.NEEDS)
            match message:
                case PlaybackReport():
                    self._playback(message)
                case PanicKey():
                    await self._panic(message)
                case SettingsWish():
                    await change_settings(self._peer.services, self._peer.record, message)
                case TokenRefresh():
                    await self._refresh(message.token)
        except MirageError as error:
            self._refuse(error, _CONTROL)

    async def publish(self) -> None:
        """Publish what was taken, until the connection is replaced or cancelled."""
        publisher = self._peer.publisher
        while publisher is not None:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                message = self._waiting.popleft()
                if isinstance(message, PanicKey):
                    await self._lift_panic(publisher)
                    continue
                try:
                    await publisher.write(message)
                    self._peer.traffic = True
                except InputRejected as error:
                    self._refuse(error, message.type.name.lower())
                except Fenced:
                    self._peer.finish(Close.REPLACED, "another connection publishes to this session now")
                    return
                except BusUnavailable as error:
                    self._peer.lost += 1
                    self._peer.fault = error
        await asyncio.Event().wait()  # a viewer publishes nothing

    # --- what becomes of a message

    def _need(self, scope: Scope) -> None:
        self._peer.claims.need(scope)
        if scope is not Scope.SUBSCRIBE and self._peer.publisher is None:
            raise ScopeMissing(f"{scope} is for the session's publisher")

    def _refuse(self, error: MirageError, media: str) -> None:
        """Say what was wrong; the session lives on."""
        peer = self._peer
        peer.tell({"type": "error", **body_of(error)})
        if isinstance(error, Throttled):
            peer.note(RateLimited(producer=peer.producer, seq=peer.next_seq(), scope=media))
            if self._limits.abused():
                peer.finish(Close.RATE, "far too much, for too long")
        elif isinstance(error, InputRejected) and media != _CONTROL:
            peer.note(FrameRejected(producer=peer.producer, seq=peer.next_seq(), media=media, reason=error.code))

    def _playback(self, report: PlaybackReport) -> None:
        peer = self._peer
        if peer.publisher is None:
            return  # policy looks at the publisher's player only
        offset_us = peer.publisher.timeline.offset_us or 0
        peer.traffic = True
        peer.note(
            Playback(
                producer=peer.producer,
                seq=peer.next_seq(),
                audio_us=report.audio_us + offset_us,
                video_us=report.video_us + offset_us,
                buffered_us=report.buffered_us,
                underruns=report.underruns,
                e2e_us=report.e2e_us,
            )
        )

    async def _panic(self, key: PanicKey) -> None:
        """Obey the key: on at once, off behind the media that was accepted before it."""
        self._waiting = deque(each for each in self._waiting if isinstance(each, MediaMessage))
        if key.on:
            await self._peer.feed.hold_panic()
            self._tell_panic(on=True)
        else:
            self._waiting.append(key)
            self._arrived.set()

    async def _lift_panic(self, publisher: Publisher) -> None:
        publisher.drop_sound()
        try:
            lifted = await self._peer.feed.lift_panic()
        except BusUnavailable as error:
            self._refuse(error, _CONTROL)
            return
        if lifted:
            self._tell_panic(on=False)

    def _tell_panic(self, *, on: bool) -> None:
        self._peer.services.facts.put(self._peer.keys.control, PanicSet(on=on))
        log.info("panic", sid=self._peer.record.sid, on=on)

    async def _refresh(self, token: str) -> None:
        authority, claims = self._peer.services.authority, self._peer.claims
        fresh = await authority.connect(token, self._peer.record.sid)
        if fresh.sub != claims.sub or fresh.scopes != claims.scopes:
            raise Refused("a refreshed token must have the same subject and scopes as the one before")
        await authority.spend(fresh)
        self._peer.claims = fresh
