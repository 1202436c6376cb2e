"""What waits to be sent to one client. Bounded: a slow reader loses old media, and costs nobody else anything."""

import asyncio
from collections import deque

MAX_CONTROL = 256


class Outbox:
    """Control messages in order, then sound in order, then only the newest picture."""

    def __init__(self, max_audio: int) -> None:
        """Let `max_audio` sound messages wait."""
        self._control: deque[str] = deque(maxlen=MAX_CONTROL)
        self._audio: deque[bytes] = deque()
        self._max_audio = max_audio
        self._video: bytes | None = None
        self._news = asyncio.Event()
        self.dropped_video = 0
        self.dropped_audio = 0

    def control(self, text: str) -> None:
        """Queue a JSON message. A client that reads none of 256 loses the oldest."""
        self._control.append(text)
        self._news.set()

    def audio(self, message: bytes) -> None:
        """Queue sound, at the cost of the oldest sound when too much waits."""
        if len(self._audio) >= self._max_audio:
            self._audio.popleft()
            self.dropped_audio += 1
        self._audio.append(message)
        self._news.set()

    def video(self, message: bytes) -> None:
        """Queue a picture in place of the one that still waits."""
        if self._video is not None:
            self.dropped_video += 1
        self._video = message
        self._news.set()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._control) + len(self._audio) + (self._video is not None)

    def clear_media(self) -> None:
        """Forget waiting sound and pictures: panic."""
        self._audio.clear()
        self._video = None

    async def take(self) -> str | bytes:
        """Return the next message to send; waits for one."""
        while True:
            if self._control:
                return self._control.popleft()
            if self._audio:
                return self._audio.popleft()
            if self._video is not None:
                message, self._video = self._video, None
                return message
            self._news.clear()
            await self._news.wait()
