"""The embedded voice engine: WORLD-style analysis and synthesis on one CPU core, nothing to download."""

from collections.abc import Callable

from workers.voice import template as templates
from workers.voice.engine import Pcm, VoiceStream
from workers.voice.mapping import VoiceMapping
from workers.voice.speaker import Speaker
from workers.voice.stream import EmbeddedStream, FrameMapping, SilentStream


class EmbeddedVoiceEngine:
    """`VoiceEngine` that moves pitch and spectral envelope of the speaker to the target's."""

    name = "embedded"

    def __init__(self, *, mapping: Callable[[Speaker], FrameMapping] = VoiceMapping) -> None:
        """Convert by what `mapping` makes of a target: the stage that turns a source's frames into the target's."""
        self._mapping = mapping

    def enrol(self, reference: Pcm) -> bytes:
        """Return the template of at least 10 s of speech. Raises `EnrolmentRefused`."""
        return templates.encode(templates.learn(reference))

    def open(self, template: bytes | None) -> VoiceStream:
        """Start a stream; None silences everything. Raises `CodecError` for bytes that are not a template."""
        if template is None:
            return SilentStream()
        target = templates.decode(template)
        return EmbeddedStream(lambda: self._mapping(target))
