"""Index retrieval: content features are pulled towards the nearest ones that the target's own speech gave.

Weights are 1 / (squared distance)² of the `NEIGHBOURS` nearest, as in RVC. A distance of 0 (a feature that is in the
index itself) would divide by zero, and an approximate index answers -1 where it found fewer: both are guarded.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Misconfigured, ModelRefused
from workers.voice.neural.content import CHANNELS, Features

NEIGHBOURS = 8

_NEAREST = 1e-6  # squared distance: features are of magnitude 10


class FeatureIndex(Protocol):
    """Finds neighbours among the target's features."""

    def search(self, features: Features) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return squared distances and row numbers (T, NEIGHBOURS); a row of -1 is none."""
        ...

    def rows(self, ids: NDArray[np.integer]) -> Features:
        """Return the features of rows, (..., 768)."""
        ...


class ExactIndex:
    """All distances, by one matrix product."""

    def __init__(self, features: NDArray[np.floating]) -> None:
        """Search (rows, 768) features. Raises `ValueError` for another shape."""
        if features.ndim != 2 or features.shape[1] != CHANNELS or not len(features):
            raise ValueError(f"index is {features.shape}; (rows, {CHANNELS}) is needed")
        self._features = np.ascontiguousarray(features, np.float32)
        self._energy = np.einsum("rc,rc->r", self._features, self._features)

    def search(self, features: Features) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return the nearest rows, in no order."""
        energy = np.einsum("tc,tc->t", features, features)[:, None]
        squared = np.maximum(self._energy + energy - 2 * features @ self._features.T, 0.0)
        if len(self._features) <= NEIGHBOURS:
            return squared, np.broadcast_to(np.arange(len(self._features)), squared.shape)
        ids = np.argpartition(squared, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return np.take_along_axis(squared, ids, axis=1), ids

    def rows(self, ids: NDArray[np.integer]) -> Features:
        """Return the features of rows."""
        return np.asarray(self._features[ids])


class FaissIndex:
    """An RVC `.index` file (an inverted file of 768-channel features), searched by faiss."""

    def __init__(self, data: bytes) -> None:
        """Read the file's bytes.

        Raises `Misconfigured` without faiss, `ModelRefused` for bytes that are no index of 768 channels.
        """
        try:
            import faiss  # noqa: PLC0415 - an extra: only a voice with an index file needs it
        except ImportError as error:
            raise Misconfigured("an index file needs faiss: pip install 'mirage[neural]'") from error
        try:
            index: Any = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        except RuntimeError as error:
            raise ModelRefused(f"not a faiss index: {error}") from error
        if index.d != CHANNELS or not index.ntotal:
            raise ModelRefused(f"index has {index.ntotal} rows of {index.d}; rows of {CHANNELS} (RVC v2) are needed")
        self._index = index
        self._features: Features = index.reconstruct_n(0, index.ntotal)

    def search(self, features: Features) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return what faiss finds."""
        squared, ids = self._index.search(np.ascontiguousarray(features), NEIGHBOURS)
        return squared, ids

    def rows(self, ids: NDArray[np.integer]) -> Features:
        """Return the features of rows."""
        return np.asarray(self._features[ids])


def retrieve(features: Features, index: FeatureIndex, rate: float) -> Features:
    """Return features (T, 768) moved by `rate` (0 to 1) towards the mean of their neighbours."""
    squared, ids = index.search(features)
    weight = np.where(ids >= 0, 1 / np.maximum(squared, _NEAREST) ** 2, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    found = np.einsum("tk,tkc->tc", weight / np.where(total > 0, total, 1.0), index.rows(np.maximum(ids, 0)))
    share = np.where(total > 0, rate, 0.0)  # without any neighbour a feature stays
    return np.asarray(share * found + (1 - share) * features, np.float32)
