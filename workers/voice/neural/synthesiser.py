"""The voice itself: an NSF-HiFiGAN synthesiser of RVC v2, in any of the namings its exporters use.

What a file declares is not believed: it is run at two lengths when it is loaded (some exports are locked to the
length they were traced with), and what it then gives decides the sampling rate, the finiteness and the loudness.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.models.contract import FREE, GraphContract, Tensor
from workers.models.runtime import Runtime
from workers.voice.neural.content import CHANNELS, Features
from workers.voice.neural.fixed_noise import OFFSET, fix_noise, offset
from workers.voice.neural.net import Net
from workers.voice.neural.noise import CHANNELS as NOISE_CHANNELS
from workers.voice.neural.noise import FrameNoise
from workers.voice.neural.pitch import Track, coarse
from workers.voice.neural.resample import RATES
from workers.voice.neural.sine_source import check_sine_source
from workers.voice.neural.windows import Sound

_FLOAT = "float32|float16"
_LENGTHS = (32, 65)  # frames tried at load
_PROBE_HZ = 220.0
_SILENT = 1e-5  # of full scale: a voice that is asked for 220 Hz and stays below is broken (fp16 does that)


@dataclass(frozen=True, slots=True)
class Naming:
    """What an exporter calls the inputs. `noise` and `spans` are inputs that not every family has."""

    what: str
    content: str
    length: str
    pitch: str
    f0: str
    speaker: str
    noise: str = ""
    spans: tuple[str, ...] = ()

    def contracts(self) -> list[GraphContract]:
        """Return what a graph of this family looks like; older exports give sound as (1, 1, N)."""
        inputs = [
            Tensor(self.content, _FLOAT, (1, FREE, CHANNELS)),
            Tensor(self.length, "int64", (1,)),
            Tensor(self.pitch, "int64", (1, FREE)),
            Tensor(self.f0, _FLOAT, (1, FREE)),
            Tensor(self.speaker, "int64", (1,)),
        ]
        if self.noise:
            inputs.append(Tensor(self.noise, _FLOAT, (1, NOISE_CHANNELS, FREE)))
        inputs += [Tensor(name, "int64", ()) for name in self.spans]
        shapes: tuple[tuple[int | None, ...], ...] = ((None,), (1, 1, None))
        return [GraphContract(self.what, tuple(inputs), (Tensor(None, _FLOAT, shape),)) for shape in shapes]


NAMINGS = (
    Naming("an RVC v2 voice (w-okada)", "feats", "p_len", "pitch", "pitchf", "sid"),
    Naming(
        "an RVC v2 voice (w-okada's forks)",
        *("feats", "p_len", "pitch", "pitchf", "sid"),
        spans=("skip_head", "return_length", "formant_length"),
    ),
    Naming("an RVC v2 voice (RVC-Project)", "phone", "phone_lengths", "pitch", "pitchf", "ds", "rnd"),
)


class VoiceContract(GraphContract):
    """Fulfilled by a graph of any family."""

    def problems(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
        """Return what keeps the graph from being of the family it is nearest to; [] if nothing does."""
        own = [tensor for tensor in inputs if tensor.name != OFFSET]
        found = [contract.problems(own, outputs) for contract in _nearest(inputs).contracts()]
        return min(found, key=len)

    def check(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, label: str) -> None:
        """Raise `ModelRefused` that names `label`, the family, and every difference."""
        problems = self.problems(inputs, outputs)
        if problems:
            families = "; ".join(", ".join(map(str, naming.contracts()[0].inputs)) for naming in NAMINGS)
            raise ModelRefused(
                f"{label} is not {_nearest(inputs).what}: {'; '.join(problems)}. Accepted are inputs [{families}]; "
                f"found are [{', '.join(map(str, inputs))}]"
            )


CONTRACT = VoiceContract("an RVC v2 voice", (), ())


def _nearest(inputs: Sequence[Tensor]) -> Naming:
    names = {tensor.name for tensor in inputs}

    def differing(naming: Naming) -> int:
        return len(names ^ {tensor.name for tensor in naming.contracts()[0].inputs})

    return min(NAMINGS, key=differing)


def load_synthesiser(runtime: Runtime, graph: bytes, *, label: str, fixed_noise: bool = False) -> "Synthesiser":
    """Open a voice, with `fixed_noise` one that draws none inside. Raises `ModelRefused`: what is wrong with it."""
    net = runtime.open(graph, CONTRACT, label=label)
    check_sine_source(graph, label=label)
    if fixed_noise:
        net = runtime.open(fix_noise(graph), CONTRACT, label=label)
    return Synthesiser(net, label=label)


class Synthesiser:
    """Content and pitch in, the voice at its own sampling rate out."""

    def __init__(self, net: Net, *, label: str) -> None:
        """Try the graph at two lengths. Raises `ModelRefused`.

        `rate`: Hz. `hop`: samples a frame. `repeatable`: whether the same input gave the same sound twice; a graph
        that draws noise inside does not, and a replay of its sessions is near, not exact.
        """
        self._net, self._label = net, label
        self._naming = _nearest(net.inputs)
        self._dtypes = {str(tensor.name): tensor.dtype for tensor in net.inputs}
        self._noise = FrameNoise()
        first = self._probe(_LENGTHS[0])
        second = self._probe(_LENGTHS[1])
        self.hop = len(first) // _LENGTHS[0]
        if not self.hop or [len(first), len(second)] != [self.hop * length for length in _LENGTHS]:
            raise ModelRefused(
                f"{label} gives {len(first)} samples for {_LENGTHS[0]} frames and {len(second)} for {_LENGTHS[1]}: "
                "its length is locked or its hop is not whole"
            )
        self.rate = self._rate(100 * self.hop)
        self.repeatable = bool(np.array_equal(first, self._probe(_LENGTHS[0])))

    def __call__(self, content: Features, f0: Track, first_frame: int) -> Sound:
        """Return the sound (T * hop,) of content (T, 768) and F0 (T,) in Hz; `first_frame` chooses the noise.

        Raises `FloatingPointError` for numbers that are not finite, `ValueError` for another length.
        """
        audio = self._run(content, f0, first_frame)
        if len(audio) != len(f0) * self.hop:
            raise ValueError(f"{self._label} gave {len(audio)} samples for {len(f0)} frames of {self.hop}")
        if not np.isfinite(audio).all():
            raise FloatingPointError(f"{self._label} gave numbers that are not finite")
        return audio

    def _run(self, content: Features, f0: Track, first_frame: int) -> Sound:
        naming, frames = self._naming, len(f0)
        values: dict[str, NDArray[Any]] = {
            naming.content: content[None],
            naming.length: np.array([frames]),
            naming.pitch: coarse(f0)[None],
            naming.f0: f0[None],
            naming.speaker: np.array([0]),
            **dict(zip(naming.spans, map(np.array, (0, frames, frames)), strict=False)),
        }
        if naming.noise:
            values[naming.noise] = self._noise(first_frame, frames)[None]
        if OFFSET in self._dtypes:
            values[OFFSET] = offset(first_frame)
        feeds = {name: value.astype(self._dtypes[name], copy=False) for name, value in values.items()}
        return np.asarray(self._net.run(feeds)[0], np.float32).ravel()

    def _probe(self, frames: int) -> Sound:
        content = np.resize(self._noise(0, frames).T, (frames, CHANNELS)).astype(np.float32)
        try:
            audio = self._run(content, np.full(frames, _PROBE_HZ, np.float32), 0)
        except ModelRefused as error:
            raise ModelRefused(
                f"{self._label} fails on {frames} frames; it is probably locked to the length it was exported with. "
                f"Export it with attention that allows any length. ({error})"
            ) from error
        if not np.isfinite(audio).all():
            raise ModelRefused(f"{self._label} gives numbers that are not finite on this machine; try float32")
        if np.abs(audio).max(initial=0.0) < _SILENT:
            raise ModelRefused(f"{self._label} gives silence for a steady tone on this machine; try float32")
        return audio

    def _rate(self, measured: int) -> int:
        noted = _noted_rate(self._net.metadata, label=self._label)
        if noted not in (None, measured):
            raise ModelRefused(f"{self._label} notes {noted} Hz, but gives {measured} samples a second")
        if measured not in RATES:
            raise ModelRefused(f"{self._label} gives {measured} Hz; {', '.join(map(str, RATES))} are known of RVC v2")
        return measured


def _noted_rate(metadata: Mapping[str, str], *, label: str) -> int | None:
    if "metadata" not in metadata:
        return None
    try:
        rate = json.loads(metadata["metadata"]).get("samplingRate")
        return None if rate is None else int(rate)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ModelRefused(f"{label} has metadata that cannot be read: {error}") from error
