"""CodeFormer as the enhancer: what the swap left soft at 128 px is restored on a 512 px crop.

It is the dearest stage by far, so it runs on every n-th frame of a track. In between, what it added is carried over:
the difference is kept in the crop's own coordinates and added to the frame's own crop, so detail moves with the face
while mouth and gaze stay those of the frame. Above rung 0 of the video ladder it rests: the first thing to go.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from workers.models.manifest import CODEFORMER
from workers.models.runtime import Network, Runtime
from workers.models.selftest import self_test
from workers.video.engine import Frame
from workers.video.neural import align, contracts
from workers.video.neural.engine import ModelSource
from workers.video.neural.paste import NeuralPatch
from workers.video.pixels import f32, u8

_IMAGE, _WEIGHT = "image", "w"
_SCALED = f32(np.arange(256) / 127.5 - 1)  # of each level

_log = structlog.get_logger(__name__)


class AddedDetail:
    """What was added to one track's face, and when."""

    def __init__(self) -> None:
        """Start without a past."""
        self.levels: NDArray[np.int16] | None = None  # (512, 512, 3) BGR, restored minus given
        self.fidelity = 0.0
        self.frames = 0


class CodeFormerEnhancer:
    """An enhancer of swapped faces."""

    def __init__(self, network: Network, *, fidelity: float, every: int) -> None:
        """Restore with `fidelity` (0 … 1, higher keeps closer to the swap), on every `every`-th frame of a track."""
        self._bound = network.bind({_IMAGE: (1, 3, align.FFHQ_SIDE, align.FFHQ_SIDE), _WEIGHT: ()})
        self._output = str(network.outputs[0].name)
        self._fidelity, self._every = fidelity, every

    def enhance(self, patches: Sequence[NeuralPatch]) -> list[NeuralPatch]:
        """Return the patches restored, in order; as they were where the session is over its budget."""
        return [self._enhanced(patch) for patch in patches]

    def _enhanced(self, patch: NeuralPatch) -> NeuralPatch:
        added = patch.memory.recall(AddedDetail)
        to_crop = align.similarity(patch.points, align.ffhq_template())
        if patch.tuning.rung > 0 or to_crop is None:
            added.levels = None
            return patch
        fidelity = self._fidelity if patch.tuning.fidelity is None else patch.tuning.fidelity
        crop = patch.drawn(to_crop, align.FFHQ_SIDE)
        if added.levels is None or added.fidelity != fidelity or added.frames % self._every == 0:
            restored = self._restored(crop, fidelity)
            if restored is None:
                added.levels = None
                return patch
            added.levels = np.asarray(cv2.subtract(restored, crop, dtype=cv2.CV_16S), np.int16)
            added.fidelity, added.frames = fidelity, 0
        added.frames += 1
        return patch.replaced(u8(cv2.add(crop, added.levels, dtype=cv2.CV_8U)), to_crop)

    def _restored(self, crop: Frame, fidelity: float) -> Frame | None:
        """Return the (512, 512, 3) BGR crop restored; None where the network's answer is no picture."""
        for plane, values in zip(self._bound.inputs[_IMAGE][0], reversed(cv2.split(crop)), strict=True):
            cv2.LUT(values, _SCALED, plane)
        self._bound.inputs[_WEIGHT][...] = fidelity
        made = self._bound.run()[self._output][0]  # (3, 512, 512), ours until the next run
        if not np.isfinite(made.sum()):
            _log.error("enhancer_gave_no_picture", label=CODEFORMER)
            return None
        np.clip(made, -1, 1, out=made)
        made += 1
        made *= 127.5
        red, green, blue = np.rint(made, out=made).astype(np.uint8)
        return u8(cv2.merge([blue, green, red]))


def load_codeformer(store: ModelSource, runtime: Runtime, *, fidelity: float, every: int) -> CodeFormerEnhancer | None:
    """Return the enhancer; None where it is switched off (`every` 0) or its graph is not in the store.

    Raises `ModelRefused` for a graph that is not CodeFormer's, or gives no picture on this device.
    """
    if every == 0 or not store.has(CODEFORMER):
        _log.info("faces_are_not_enhanced", reason="switched off" if every == 0 else f"no {CODEFORMER}")
        return None
    network = runtime.open(store.read(CODEFORMER), contracts.ENHANCER, label=CODEFORMER)
    rows, columns = np.mgrid[0 : align.FFHQ_SIDE, 0 : align.FFHQ_SIDE] / align.FFHQ_SIDE
    picture = f32(np.stack([rows, columns, rows * columns])[None] * 1.6 - 0.8)
    self_test(network, {_IMAGE: picture, _WEIGHT: f32(fidelity)}, label=CODEFORMER)
    return CodeFormerEnhancer(network, fidelity=fidelity, every=every)
