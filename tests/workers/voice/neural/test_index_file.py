"""Index files, read and searched by faiss itself: what RVC writes is looked up in, all else is refused by name."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.voice.neural.content import Features
from workers.voice.neural.retrieval import ExactIndex, FaissIndex, retrieve

pytestmark = pytest.mark.neural_peers

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.standard_normal((700, 768)).astype(np.float32)
QUERIES = RANDOM.standard_normal((20, 768)).astype(np.float32)


def file(kind: str, rows: Features = ROWS, *, metric: str = "METRIC_L2", ids: NDArray[np.int64] | None = None) -> bytes:
    """Return the bytes of an index that faiss's factory calls `kind`, trained on `ROWS`."""
    import faiss

    index = faiss.index_factory(rows.shape[1], kind, getattr(faiss, metric))
    index.train(np.ascontiguousarray(ROWS[:, : rows.shape[1]]))
    index.add(rows) if ids is None else index.add_with_ids(rows, ids)
    return bytes(faiss.serialize_index(index).tobytes())


def edited(made: bytes, change: Any) -> bytes:
    """Return an index file after `change` of the index in it."""
    import faiss

    index = faiss.deserialize_index(np.frombuffer(made, np.uint8))
    change(index)
    return bytes(faiss.serialize_index(index).tobytes())


def probe_all(index: Any) -> None:
    index.nprobe = index.nlist


def test_what_a_flat_file_gives_is_the_exact_answer() -> None:
    expected = retrieve(QUERIES, ExactIndex(ROWS), 0.8)
    np.testing.assert_allclose(retrieve(QUERIES, FaissIndex(file("Flat")), 0.8), expected, atol=1e-3)


def test_what_an_inverted_file_gives_is_the_exact_answer_where_it_looks_everywhere() -> None:
    """And near it where it looks into one list, as RVC's files do."""
    expected = retrieve(QUERIES, ExactIndex(ROWS), 0.8)
    everywhere = FaissIndex(edited(file("IVF16,Flat"), probe_all))
    np.testing.assert_allclose(retrieve(QUERIES, everywhere, 0.8), expected, atol=1e-3)
    found = retrieve(ROWS[:50], FaissIndex(file("IVF16,Flat")), 1.0)
    np.testing.assert_allclose(found, ROWS[:50], atol=1e-3)


@pytest.mark.parametrize("numbers", [np.arange(700) + 1000, np.arange(700) % 350, np.arange(700) - 1])
def test_an_inverted_file_that_numbers_its_rows_otherwise_is_refused(numbers: NDArray[np.int64]) -> None:
    """They would be read from whatever memory held, or not be found in the middle of a session."""
    with pytest.raises(ModelRefused, match=r"index holds 700 of the 700 rows .* rows numbered 0 to 699 are needed"):
        FaissIndex(file("IVF16,Flat", ids=numbers))


def test_an_inverted_file_without_its_rows_is_refused() -> None:
    """Faiss counts a row that is NaN, and keeps it nowhere."""
    spoiled = ROWS.copy()
    spoiled[3, 5] = np.nan
    with pytest.raises(ModelRefused, match=r"index holds 699 of the 700 rows it counts, numbered 0 to 699"):
        FaissIndex(file("IVF16,Flat", spoiled))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused(value: float) -> None:
    spoiled = ROWS.copy()
    spoiled[3, 5] = value
    with pytest.raises(ModelRefused, match="NaN or infinite"):
        FaissIndex(file("Flat", spoiled))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("IDMap,Flat", "IndexIDMap"),  # faiss aborts the process when asked for its rows
        ("IDMap2,Flat", "IndexIDMap2"),
        ("IVF16,SQ8", "IndexIVFScalarQuantizer"),
        ("IVF16_HNSW8,Flat", "index's quantiser is of the kind IndexHNSWFlat"),
        ("HNSW16", "IndexHNSWFlat"),
        ("PCA64,Flat", "IndexPreTransform"),
    ],
)
def test_another_kind_of_index_is_refused_by_name(kind: str, named: str) -> None:
    ids = np.arange(700) if kind.startswith("IDMap") else None
    with pytest.raises(ModelRefused, match=rf"{named}.*Flat and IVF…,Flat are accepted"):
        FaissIndex(file(kind, ids=ids))


@pytest.mark.parametrize("kind", ["Flat", "IVF16,Flat"])
@pytest.mark.parametrize(("metric", "named"), [("METRIC_INNER_PRODUCT", "inner product"), ("METRIC_L1", "another")])
def test_another_metric_is_refused(kind: str, metric: str, named: str) -> None:
    """By the inner product the best neighbour has the largest figure, and would weigh least."""
    with pytest.raises(ModelRefused, match=rf"index compares by .*{named}.*squared distances"):
        FaissIndex(file(kind, metric=metric))


def test_an_inverted_file_that_looks_nowhere_is_refused() -> None:
    def nowhere(index: Any) -> None:
        index.nprobe = 0

    with pytest.raises(ModelRefused, match="index cannot be searched"):
        FaissIndex(edited(file("IVF16,Flat"), nowhere))


def test_an_inverted_file_whose_centres_have_no_lists_is_refused() -> None:
    import faiss

    def crowd(index: Any) -> None:
        faiss.downcast_index(index.quantizer).add(ROWS[:4])

    with pytest.raises(ModelRefused, match="16 lists for 20 centres"):
        FaissIndex(edited(file("IVF16,Flat"), crowd))


def test_an_inverted_file_that_points_at_another_file_is_refused(tmp_path: Path) -> None:
    """What was hashed is what runs."""
    import faiss

    def elsewhere(index: Any) -> None:
        lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "rows"))
        lists.merge_from_1(index.invlists)
        index.replace_invlists(lists, True)
        lists.this.disown()

    with pytest.raises(ModelRefused, match="rows in another file"):
        FaissIndex(edited(file("IVF16,Flat"), elsewhere))


@pytest.mark.parametrize("bad", [b"", b"not an index", b"IxF2"])
def test_bytes_that_are_no_index_are_refused(bad: bytes) -> None:
    with pytest.raises(ModelRefused, match="not a faiss index"):
        FaissIndex(bad)


def test_half_a_file_is_refused() -> None:
    made = file("Flat")
    with pytest.raises(ModelRefused, match="not a faiss index"):
        FaissIndex(made[: len(made) // 2])


@pytest.mark.parametrize(
    ("kind", "at", "value", "named"),
    [
        ("Flat", 40, 0xFF, "not a faiss index: .*byte_limit"),  # the length of the rows: terabytes
        ("IVF16,Flat", 93, 0xFF, "not a faiss index: .*byte_limit"),  # the same of the centres
        ("IVF16,Flat", 12, 0xFF, "index holds 700 of the 1095216661180 rows it counts"),
        ("IVF16,Flat", 15, 0x7F, "index holds 700 of the 9151314442816848572 rows it counts"),
    ],
)
def test_a_file_with_a_damaged_length_is_refused(kind: str, at: int, value: int, named: str) -> None:
    damaged = bytearray(file(kind))
    damaged[at] = value
    with pytest.raises(ModelRefused, match=named):
        FaissIndex(bytes(damaged))


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
@pytest.mark.parametrize("what", ["deserialize_index", "IndexFlat.reconstruct_n"])
def test_a_file_that_there_is_no_memory_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], what: str
) -> None:
    made = file("Flat")

    def fail(*_: object) -> None:
        raise error("std::bad_alloc")

    monkeypatch.setattr(f"faiss.{what}", fail)
    with pytest.raises(ModelRefused, match=r"index.*: std::bad_alloc"):
        FaissIndex(made)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ModelRefused, match="700 rows of 256; rows of 768"):
        FaissIndex(file("Flat", np.ascontiguousarray(ROWS[:, :256])))


def test_a_search_takes_one_core_on_whatever_thread_it_runs() -> None:
    """A worker has other threads for the other cores; OpenMP's own would wait for them, spinning."""
    import faiss

    index, seen = FaissIndex(file("Flat")), []

    def work() -> None:
        faiss.omp_set_num_threads(4)
        index.search(QUERIES)
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]
