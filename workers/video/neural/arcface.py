"""Who somebody is, as 512 numbers: ArcFace (Deng et al., CVPR 2019). Runs at enrolment only."""

import cv2
import numpy as np

from workers.models.runtime import Network
from workers.video.engine import Frame
from workers.video.neural import align
from workers.video.neural.contracts import RECOGNISER_CROP
from workers.video.pixels import Float, f32

_MEAN = _STD = 127.5


class ArcFace:
    """The recogniser. Not thread-safe."""

    def __init__(self, network: Network) -> None:
        """Use `network`, of the contract `RECOGNISER`."""
        name = str(network.inputs[0].name)
        self._bound = network.bind({name: (1, 3, RECOGNISER_CROP, RECOGNISER_CROP)})
        self._planes = self._bound.inputs[name]
        self._output = str(network.outputs[0].name)

    def embed(self, frame: Frame, keypoints: Float) -> Float | None:
        """Return the (512,) unit embedding of the face at `keypoints` (5, 2) px of `frame` (H, W, 3).

        None where the keypoints have no extent or the graph's answer has no direction.
        """
        to_crop = align.similarity(keypoints, align.template(RECOGNISER_CROP))
        if to_crop is None:
            return None
        crop = cv2.cvtColor(align.warp(frame, to_crop, RECOGNISER_CROP), cv2.COLOR_BGR2RGB)
        self._planes[0] = (f32(crop).transpose(2, 0, 1) - np.float32(_MEAN)) * np.float32(1 / _STD)
        embedding = f32(self._bound.run()[self._output]).reshape(-1)
        length = float(np.linalg.norm(embedding))
        return f32(embedding / length) if np.isfinite(length) and length > 1e-6 else None
