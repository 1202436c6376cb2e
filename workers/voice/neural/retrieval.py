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
    """An RVC `.index` file (768-channel features, flat or in an inverted file), searched by faiss."""

    def __init__(self, data: bytes) -> None:
        """Read the file's bytes.

        Accepted are the kinds `Flat` and `IVF…,Flat` with squared distances (L2), rows of 768 finite numbers, numbered
        from 0 without gaps: RVC writes no other. Raises `Misconfigured` without faiss, `ModelRefused` for other bytes.
        """
        try:
            import faiss  # noqa: PLC0415 - an extra: only a voice with an index file needs it
        except ImportError as error:
            raise Misconfigured("an index file needs faiss: pip install -e '.[neural]'") from error
        try:
            # Without it a damaged length fills the machine's memory before it is refused.
            faiss.set_deserialization_vector_byte_limit(len(data))
            index: Any = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        except (RuntimeError, MemoryError) as error:
            raise ModelRefused(f"not a faiss index: {error}") from error
        if index.d != CHANNELS or not index.ntotal:
            raise ModelRefused(f"index has {index.ntotal} rows of {index.d}; rows of {CHANNELS} (RVC v2) are needed")
        self._faiss, self._index = faiss, index
        try:
            # Before anything is asked of it: what faiss has not written for a kind aborts the process, and rows that
            # an inverted file lacks come back as whatever memory held.
            _refuse_other_kinds(faiss, index)
            self._features: Features = index.reconstruct_n(0, index.ntotal)
            if not np.isfinite(self._features).all():
                raise ModelRefused("index has rows that are NaN or infinite; finite ones are needed")
            self.search(self._features[:1])
        except (RuntimeError, MemoryError) as error:
            raise ModelRefused(f"index cannot be searched: {error}") from error

    def search(self, features: Features) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Return what faiss finds, on the caller's thread alone."""
        # OpenMP keeps this figure a thread, and the thread that reads the file is not the one that searches.
        self._faiss.omp_set_num_threads(1)
        squared, ids = self._index.search(np.ascontiguousarray(features), NEIGHBOURS)
        return squared, ids

    def rows(self, ids: NDArray[np.integer]) -> Features:
        """Return the features of rows."""
        return np.asarray(self._features[ids])


def _refuse_other_kinds(faiss: Any, index: Any) -> None:
    """Raise `ModelRefused` unless `index` is `Flat` or `IVF…,Flat`, by L2, with rows 0, 1, 2, ..."""
    if type(index) is not faiss.IndexIVFFlat:
        _refuse_other_than_flat(faiss, index, "index")
        return
    _refuse_other_distances(faiss, index, "index")
    _refuse_other_than_flat(faiss, faiss.downcast_index(index.quantizer), "index's quantiser")
    _refuse_other_rows(faiss, index)


def _refuse_other_than_flat(faiss: Any, index: Any, what: str) -> None:
    if type(index) not in (faiss.IndexFlat, faiss.IndexFlatL2, faiss.IndexFlatIP):  # the last for its own message
        raise ModelRefused(f"{what} is of the kind {type(index).__name__}; Flat and IVF…,Flat are accepted")
    _refuse_other_distances(faiss, index, what)


def _refuse_other_distances(faiss: Any, index: Any, what: str) -> None:
    if index.metric_type != faiss.METRIC_L2:
        found = "the inner product" if index.metric_type == faiss.METRIC_INNER_PRODUCT else "another distance"
        raise ModelRefused(f"{what} compares by {found}; squared distances (METRIC_L2) are needed")


def _refuse_other_rows(faiss: Any, index: Any) -> None:
    lists = faiss.downcast_InvertedLists(index.invlists)
    if type(lists) is not faiss.ArrayInvertedLists:
        raise ModelRefused("index keeps its rows in another file; an index that holds them is needed")
    centres = index.quantizer.ntotal
    if not index.nlist == lists.nlist == centres:
        raise ModelRefused(f"index has {lists.nlist} lists for {centres} centres; one each is needed")
    sizes = [(number, lists.list_size(number)) for number in range(lists.nlist)]
    held = [faiss.rev_swig_ptr(lists.get_ids(number), size).copy() for number, size in sizes if size]
    ids = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
    # Lengths first: a damaged count may be of more rows than any memory holds numbers for.
    if len(ids) != index.ntotal or not np.array_equal(ids, np.arange(len(ids))):
        spread = f", numbered {ids[0]} to {ids[-1]}" if len(ids) else ""
        raise ModelRefused(
            f"index holds {len(ids)} of the {index.ntotal} rows it counts{spread}; "
            f"{index.ntotal} rows numbered 0 to {index.ntotal - 1} are needed"
        )


def retrieve(features: Features, index: FeatureIndex, rate: float) -> Features:
    """Return features (T, 768) moved by `rate` (0 to 1) towards the mean of their neighbours."""
    squared, ids = index.search(features)
    weight = np.where(ids >= 0, 1 / np.maximum(squared, _NEAREST) ** 2, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    found = np.einsum("tk,tkc->tc", weight / np.where(total > 0, total, 1.0), index.rows(np.maximum(ids, 0)))
    share = np.where(total > 0, rate, 0.0)  # without any neighbour a feature stays
    return np.asarray(share * found + (1 - share) * features, np.float32)
