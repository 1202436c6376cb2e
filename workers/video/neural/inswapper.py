"""The swap itself: InSwapper on a batch of aligned faces, from any number of sessions."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from workers.models.bound import Bound
from workers.models.providers import Profile
from workers.models.runtime import Network
from workers.video.engine import Frame
from workers.video.faces import TrackedFace, side
from workers.video.neural import align
from workers.video.neural.contracts import CROP, EMBEDDING
from workers.video.neural.light import in_the_light_of
from workers.video.neural.paste import NeuralPatch, Paster
from workers.video.pixels import Affine, Float, u8
from workers.video.stages import SwapRequest

MAX_BATCH = 8
"""Faces a run. Buffers, and CUDA graphs, are kept for every size up to this; what comes at once beyond runs after."""
_TRUNCATED = -0.499  # the reference cuts fractions off, OpenCV rounds
_BLACK = 8  # levels
_LEAST_COVERED = 0.7  # the crop's side as a share of the box's; in photographs it is 1.28 and more
_MOST_ASIDE = 0.3  # of the crop's side: how far the box's middle may lie off the crop's; in photographs up to 0.12
_INPUT, _LATENT = "target", "source"


@dataclass(frozen=True, slots=True, eq=False)
class NeuralIdentity:
    """A face to wear."""

    latent: Float  # (512,) unit length


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """What the network leaves to taste. The defaults are the reference's."""

    light: float = 0.0
    """How far, 0..1, colours are moved to those of the performer's face."""
    keep_mouth: bool = False
    """Whether the performer's own mouth stays."""


class InSwapper:
    """A swapper whose identity is a latent. Not thread-safe."""

    def __init__(self, network: Network, options: SwapOptions | None = None, *, max_batch: int = MAX_BATCH) -> None:
        """Use `network`, of the contract `SWAPPER`; one whose first axis is fixed to 1 runs face by face."""
        (target,) = (tensor for tensor in network.inputs if tensor.name == _INPUT)
        self._network, self._options = network, options or SwapOptions()
        self._output = str(network.outputs[0].name)
        self._most = max_batch if target.shape[0] is None else 1
        self._sizes: dict[int, Bound] = {}
        self._paster = Paster()

    def warm(self) -> None:
        """Make the buffers of every batch size, so that no frame waits for them.

        The largest first: TensorRT builds its engine anew for a size beyond those it has seen, and smaller runs fit
        into the memory of larger ones.
        """
        for size in range(self._most, 0, -1):
            self._bound(size)

    def swap(self, requests: Sequence[SwapRequest[NeuralIdentity]]) -> list[NeuralPatch | None]:
        """Return a patch for each request, in order; None where keypoints or the network's answer are no face."""
        places = [_place(request.face) for request in requests]
        patches: list[NeuralPatch | None] = [None] * len(requests)
        usable = [i for i, place in enumerate(places) if place is not None]
        for first in range(0, len(usable), self._most):
            batch = usable[first : first + self._most]
            for i, patch in zip(batch, self._run([(requests[i], places[i]) for i in batch]), strict=True):
                patches[i] = patch
        return patches

    def new_faces(self, crops: Sequence[Frame], latents: Sequence[Float]) -> Float:
        """Return (N, 3, 128, 128) RGB 0..1, as the network gives it, for N aligned BGR crops (128, 128, 3).

        N is at most what one run takes. The array is overwritten by the next call of the same N.
        """
        bound = self._bound(len(crops))
        targets, sources = bound.inputs[_INPUT], bound.inputs[_LATENT]
        for i, (crop, latent) in enumerate(zip(crops, latents, strict=True)):
            for plane, values in zip(targets[i], reversed(cv2.split(crop)), strict=True):
                np.multiply(values, np.float32(1 / 255), out=plane)
            sources[i] = latent
        return np.asarray(bound.run()[self._output], np.float32)

    def _run(self, batch: Sequence[tuple[SwapRequest[NeuralIdentity], Affine | None]]) -> list[NeuralPatch | None]:
        placed = [(request, to_crop) for request, to_crop in batch if to_crop is not None]
        crops = [align.warp(request.frame, to_crop, CROP) for request, to_crop in placed]
        made = self.new_faces(crops, [request.identity.latent for request, _ in placed])
        return [
            self._patch(request, to_crop, crop, planes)
            for (request, to_crop), crop, planes in zip(placed, crops, made, strict=True)
        ]

    def _patch(
        self, request: SwapRequest[NeuralIdentity], to_crop: Affine, crop: Frame, planes: Float
    ) -> NeuralPatch | None:
        pixels = picture(planes)
        if pixels is None or int(pixels.max()) < _BLACK <= float(crop.mean()):
            return None
        if self._options.light:
            pixels = in_the_light_of(crop, pixels, self._options.light)
        face = request.face
        return NeuralPatch(
            frame=request.frame,
            points=face.landmarks,
            pixels=pixels,
            to_crop=to_crop,
            memory=face.memory,
            paster=self._paster,
            keep_mouth=self._options.keep_mouth,
            tuning=request.tuning,
        )

    def _bound(self, size: int) -> Bound:
        if size not in self._sizes:
            shapes: dict[str, tuple[int, ...]] = {
                str(tensor.name): (size, *(axis or size for axis in tensor.shape[1:]))
                for tensor in self._network.inputs
            }
            self._sizes[size] = self._network.bind(shapes)
        return self._sizes[size]


def profile_of(least: int, best: int, most: int) -> Profile:
    """Return what TensorRT is told of the batches to come: from `least` to `most` faces, quickest at `best`."""

    def shapes(batch: int) -> dict[str, tuple[int, ...]]:
        return {_INPUT: (batch, 3, CROP, CROP), _LATENT: (batch, EMBEDDING)}

    return shapes(least), shapes(best), shapes(most)


def _place(face: TrackedFace) -> Affine | None:
    """Return the (2, 3) affine from frame px to the crop; None where keypoints belie the box: most would stay bare."""
    to_crop = align.similarity(face.landmarks, align.template(CROP))
    if to_crop is None:
        return None
    middle = to_crop[:, :2] @ ((face.box[:2] + face.box[2:]) / 2) + to_crop[:, 2]
    covers = side(face.box) * align.scale(to_crop) <= CROP / _LEAST_COVERED  # False for what is not finite
    return to_crop if covers and (np.abs(middle - CROP / 2) <= CROP * _MOST_ASIDE).all() else None


def picture(planes: Float) -> Frame | None:
    """Return (S, S, 3) BGR of `planes` (3, S, S) RGB 0..1; None where they are not finite. Fractions are cut off."""
    if not np.isfinite(planes.sum()):
        return None
    levels = u8(
        cv2.addWeighted(
            planes.reshape(-1, planes.shape[-1]),
            255.0,
            planes.reshape(-1, planes.shape[-1]),
            0.0,
            _TRUNCATED,
            dtype=cv2.CV_8U,
        )
    ).reshape(planes.shape)
    return u8(cv2.merge([levels[2], levels[1], levels[0]]))


def latent_of(embedding: Float, emap: Float) -> Float:
    """Return the (512,) unit latent of a unit `embedding` (512,) through `emap` (512, 512)."""
    latent = embedding @ emap
    length = float(np.linalg.norm(latent))
    if not np.isfinite(length) or length < 1e-6:
        raise ValueError("the embedding has no latent: its image has no length")
    return np.asarray(latent / length, np.float32)
