"""Index retrieval: neighbours, weights, and the answers that would poison the sound."""

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import Misconfigured
from workers.voice.neural.content import Features
from workers.voice.neural.retrieval import NEIGHBOURS, ExactIndex, FaissIndex, retrieve

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.standard_normal((300, 768)).astype(np.float32)
QUERIES = RANDOM.standard_normal((20, 768)).astype(np.float32)


def test_the_exact_search_finds_the_nearest() -> None:
    squared, ids = ExactIndex(ROWS).search(QUERIES)
    distances = ((QUERIES[:, None] - ROWS[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.sort(nearest, axis=1))
    np.testing.assert_allclose(squared, np.take_along_axis(distances, ids, axis=1), rtol=1e-3)


def test_the_blend_is_that_of_rvc() -> None:
    """Weights 1 / distance⁴ of eight neighbours; `rate` of the result, the rest of the feature itself."""
    distances = ((QUERIES[:, None] - ROWS[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
    weight = 1 / np.take_along_axis(distances, nearest, axis=1) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    expected = 0.25 * QUERIES + 0.75 * np.einsum("tk,tkc->tc", weight, ROWS[nearest])
    np.testing.assert_allclose(retrieve(QUERIES, ExactIndex(ROWS), 0.75), expected, atol=1e-3)


def test_a_feature_that_is_in_the_index_gives_itself() -> None:
    """Its distance is 0, and 1 / 0 would be NaN."""
    np.testing.assert_allclose(retrieve(ROWS[:5], ExactIndex(ROWS), 1.0), ROWS[:5], atol=1e-3)


class Sparse:
    """An approximate index that finds one neighbour for the first query and none for the second."""

    def search(self, features: Features) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        ids = np.full((len(features), NEIGHBOURS), -1)
        ids[0, 0] = 7
        return np.where(ids < 0, 3.4e38, 2.0), ids

    def rows(self, ids: NDArray[np.integer]) -> Features:
        assert (ids >= 0).all()
        return np.asarray(ROWS[ids])


def test_neighbours_that_are_missing_do_not_count() -> None:
    found = retrieve(QUERIES[:2], Sparse(), 1.0)
    np.testing.assert_allclose(found, [ROWS[7], QUERIES[1]], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, NEIGHBOURS, NEIGHBOURS + 1])
def test_an_index_may_be_small(rows: int) -> None:
    assert np.isfinite(retrieve(QUERIES, ExactIndex(ROWS[:rows]), 0.5)).all()


@pytest.mark.parametrize("shape", [(0, 768), (4, 256), (768,)])
def test_features_of_another_shape_are_refused(shape: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="768"):
        ExactIndex(np.zeros(shape, np.float32))


def test_without_faiss_an_index_file_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # as Python has it of a package that is not there
    with pytest.raises(Misconfigured, match=r"pip install -e '\.\[neural\]'"):
        FaissIndex(b"")
