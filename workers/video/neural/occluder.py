"""Keeps what lies before a face in front of its swap: a segmenter finds it, `workers.video.occlusion` decides.

The segmenter is MediaPipe's multiclass selfie model as ONNX (Apache-2.0). It knows hair, skin of body and face, clothes
and things, and was made for a person seen from a few metres, so it is shown twice the swap's crop, in the swap's own
alignment: one of its px is one of the crop's. It runs on every frame: a mask of an earlier one would show raw skin
where a hand has gone. Where a session is over its budget it rests, and the swap covers all.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog

from schemas.errors import ModelRefused
from workers.models.manifest import SEGMENTER
from workers.models.runtime import Network, Runtime
from workers.models.selftest import self_test
from workers.video.engine import Frame
from workers.video.neural import align, contracts
from workers.video.neural.engine import ModelSource
from workers.video.neural.paste import NeuralPatch
from workers.video.occlusion import SIDE, OcclusionMemory, opening
from workers.video.pixels import Affine, Float, Mask, f32
from workers.video.stages import Enhancer

_MARGIN = (contracts.SEGMENTED - SIDE) // 2  # px around the swap's crop

_log = structlog.get_logger(__name__)


class _Answer:
    """What was decided for a track's last patch.

    A batch that fails is run again one by one, and a frame counts once: asked twice, it would be its own past, and open
    what only it shows.
    """

    def __init__(self) -> None:
        """Start without one."""
        self.place: Affine | None = None  # the patch's own array: it alone has it
        self.opened: Mask | None = None


class Occluder:
    """An enhancer of swapped faces that opens them where something lies before them; `then` sees them after it."""

    def __init__(self, network: Network, then: Enhancer[NeuralPatch] | None = None) -> None:
        """Use `network`, of the contract `SEGMENTER`. `then`: the enhancer that comes next."""
        self._network, self._then = network, then
        self._input = str(network.inputs[0].name)

    def enhance(self, patches: Sequence[NeuralPatch]) -> list[NeuralPatch]:
        """Return the patches, in order, opened where something lies before the face; as they were over budget."""
        opened = [replace(patch, opened=self._opened(patch)) for patch in patches]
        return opened if self._then is None else list(self._then.enhance(opened))

    def _opened(self, patch: NeuralPatch) -> Mask | None:
        answer = patch.memory.recall(_Answer)
        if answer.place is not patch.to_crop:
            answer.opened = self._decided(patch, patch.memory.recall(OcclusionMemory))
            answer.place = patch.to_crop
        return answer.opened

    def _decided(self, patch: NeuralPatch, memory: OcclusionMemory) -> Mask | None:
        if patch.tuning.rung > 0:
            memory.forget_last()
            return None
        try:
            (scores,) = self._network.run({self._input: picture_of(patch.frame, patch.to_crop)})
        except ModelRefused:
            memory.forget_last()
            raise
        crop = f32(scores[0, _MARGIN : _MARGIN + SIDE, _MARGIN : _MARGIN + SIDE])
        if not np.isfinite(crop).all():
            _log.error("segmenter_gave_no_scores", label=SEGMENTER)
            memory.forget_last()
            return None
        return opening(crop, memory)


def picture_of(frame: Frame, to_crop: Affine) -> Float:
    """Return (1, 256, 256, 3) RGB 0..1: the surroundings of the swap's crop, which lies in the middle."""
    wide = to_crop + np.array([[0, 0, _MARGIN], [0, 0, _MARGIN]])
    crop = align.warp(frame, wide, contracts.SEGMENTED)
    return f32(crop[None, :, :, ::-1]) / np.float32(255)


def load_occluder(store: ModelSource, runtime: Runtime, then: Enhancer[NeuralPatch] | None = None) -> Occluder:
    """Return the stage, with the enhancer `then` after it.

    Raises `ModelMissing` where the graph is not in the store, `ModelRefused` where it is not that segmenter, or gives
    nothing on this device.
    """
    network = runtime.open(store.read(SEGMENTER), contracts.SEGMENTER, label=SEGMENTER)
    rows, columns = np.mgrid[0 : contracts.SEGMENTED, 0 : contracts.SEGMENTED] / contracts.SEGMENTED
    picture = f32(np.stack([rows, columns, rows * columns], axis=2)[None])
    self_test(network, {str(network.inputs[0].name): picture}, label=SEGMENTER)
    return Occluder(network, then)
