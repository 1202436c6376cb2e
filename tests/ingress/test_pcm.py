"""The cut of sound into chunks: nothing lost, nothing doubled, times exact."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.pcm import JITTER_US, Chunk, Reframer, check_pcm
from schemas.errors import InputRejected
from schemas.policy_config import CHUNK_LADDER_MS


def samples(start: int, count: int) -> bytes:
    """Return PCM whose samples count up, so that order and loss show."""
    return b"".join((i % 65536).to_bytes(2, "little") for i in range(start, start + count))


def us(count: int) -> int:
    """Return how long `count` samples last."""
    return count * 1_000_000 // 16_000


@given(st.lists(st.integers(1, 8000), max_size=30), st.sampled_from(CHUNK_LADDER_MS), st.integers(-(10**9), 10**12))
def test_steady_sound_comes_out_whole_and_in_time(lengths: list[int], chunk_ms: int, start_us: int) -> None:
    reframer, chunks, at = Reframer(chunk_ms), list[Chunk](), 0
    for seq, length in enumerate(lengths):
        chunks += reframer.push(start_us + us(at), seq, samples(at, length))
        at += length
    size = chunk_ms * 16
    assert len(chunks) == at // size
    assert b"".join(chunk.data for chunk in chunks) == samples(0, len(chunks) * size)
    assert [chunk.pts_us for chunk in chunks] == [start_us + us(i * size) for i in range(len(chunks))]
    begins = [sum(lengths[:i]) for i in range(len(lengths))]
    for i, chunk in enumerate(chunks):  # the number is that of the message with the chunk's first sample
        assert chunk.seq == max(n for n, begin in enumerate(begins) if begin <= i * size)


@given(
    st.lists(st.tuples(st.integers(1, 8000), st.sampled_from(CHUNK_LADDER_MS)), max_size=40),
    st.integers(-(10**9), 10**12),
)
def test_sound_stays_whole_and_in_time_however_often_the_length_changes(
    pushes: list[tuple[int, int]], start_us: int
) -> None:
    reframer, chunks, at, expected = Reframer(192), list[Chunk](), 0, list[int]()
    for seq, (length, chunk_ms) in enumerate(pushes):
        reframer.chunk_ms = chunk_ms
        chunks += reframer.push(start_us + us(at), seq, samples(at, length))
        at += length
        expected += [chunk_ms * 16] * ((at - sum(expected)) // (chunk_ms * 16))
    assert [len(chunk.data) // 2 for chunk in chunks] == expected
    assert b"".join(chunk.data for chunk in chunks) == samples(0, sum(expected))
    assert [chunk.pts_us for chunk in chunks] == [start_us + us(sum(expected[:i])) for i in range(len(expected))]


@given(
    st.lists(st.tuples(st.integers(1, 4000), st.integers(-2_000_000, 3_000_000)), min_size=1, max_size=30),
    st.sampled_from(CHUNK_LADDER_MS),
)
def test_whatever_the_times_chunks_have_their_length_and_only_silence_is_added(
    messages: list[tuple[int, int]], chunk_ms: int
) -> None:
    reframer, chunks, at_us, sent = Reframer(chunk_ms), list[Chunk](), 0, 0
    for seq, (length, gap_us) in enumerate(messages):
        at_us += gap_us
        chunks += reframer.push(at_us, seq, b"\x01\x01" * length)
        at_us += us(length)
        sent += length
    chunks += reframer.break_run()
    assert all(len(chunk.data) == chunk_ms * 32 for chunk in chunks)
    assert sum(chunk.data.count(b"\x01") for chunk in chunks) == 2 * sent
    assert [chunk.seq for chunk in chunks] == sorted(chunk.seq for chunk in chunks)
    assert reframer.break_run() == []


def test_jitter_does_not_move_chunks() -> None:
    reframer, chunks = Reframer(96), list[Chunk]()
    for i in range(20):
        jitter_us = (JITTER_US - 1) * (-1) ** i if i else 0
        chunks += reframer.push(i * 48_000 + jitter_us, i, bytes(48 * 32))
    assert {b.pts_us - a.pts_us for a, b in pairwise(chunks)} == {96_000}


def test_a_gap_inside_a_chunk_is_filled_with_silence() -> None:
    reframer = Reframer(192)
    assert reframer.push(0, 1, b"\x01\x01" * 1600) == []
    (chunk,) = reframer.push(170_000, 2, b"\x02\x02" * 1600)  # 70 ms are missing
    assert chunk.data == b"\x01\x01" * 1600 + bytes(70 * 32) + b"\x02\x02" * (22 * 16)
    assert (chunk.pts_us, chunk.seq) == (0, 1)


def test_a_gap_beyond_the_chunk_ends_the_run() -> None:
    reframer = Reframer(96)
    reframer.push(0, 1, b"\x01\x01" * 160)
    padded, fresh = reframer.push(500_000, 2, b"\x02\x02" * 96 * 16)
    assert padded == Chunk(0, 1, b"\x01\x01" * 160 + bytes(86 * 32))
    assert fresh == Chunk(500_000, 2, b"\x02\x02" * 96 * 16)


def test_a_new_length_holds_from_the_next_chunk_on() -> None:
    reframer = Reframer(320)
    reframer.push(0, 1, samples(0, 3200))
    reframer.chunk_ms = 96
    chunks = reframer.push(200_000, 2, samples(3200, 160))
    assert [chunk.pts_us for chunk in chunks] == [0, 96_000]
    assert b"".join(chunk.data for chunk in chunks) == samples(0, 3072)


@pytest.mark.parametrize("size", [0, 1, 3, 64_001, 64_002])
def test_odd_empty_and_endless_sound_is_refused(size: int) -> None:
    with pytest.raises(InputRejected) as caught:
        check_pcm(bytes(size), max_ms=2000)
    assert caught.value.code == "bad_sound"


def test_limit_itself_is_accepted() -> None:
    check_pcm(bytes(64_000), max_ms=2000)


@pytest.mark.parametrize("break_first", [False, True])
def test_a_much_shorter_length_lets_whole_chunks_out_first(*, break_first: bool) -> None:
    reframer = Reframer(320)
    assert reframer.push(0, 1, samples(1, 5000)) == []
    reframer.chunk_ms = 96
    chunks = reframer.break_run() if break_first else []
    chunks += reframer.push(2_000_000, 2, samples(1, 1536))
    assert [len(chunk.data) for chunk in chunks] == [3072] * 5
    assert [chunk.pts_us for chunk in chunks] == [0, 96_000, 192_000, 288_000, 2_000_000]
    assert b"".join(chunk.data for chunk in chunks[:4]) == samples(1, 5000) + bytes(2 * (4 * 1536 - 5000))


def test_dropped_sound_is_gone() -> None:
    reframer = Reframer(96)
    reframer.push(0, 1, b"\x01\x01" * 1000)
    reframer.drop()
    assert reframer.push(62_500, 2, b"\x02\x02" * 1536) == [Chunk(62_500, 2, b"\x02\x02" * 1536)]


def test_a_gap_is_measured_in_the_shorter_chunk_at_hand() -> None:
    reframer = Reframer(320)
    reframer.push(0, 1, samples(1, 5000))
    reframer.chunk_ms = 96
    chunks = reframer.push(382_500, 2, samples(5001, 100))  # 70 ms after the sound at hand ends: they fit into a chunk
    assert [chunk.pts_us for chunk in chunks] == [0, 96_000, 192_000, 288_000]
    sound = samples(1, 5000) + bytes(2 * 1120) + samples(5001, 24)
    assert b"".join(chunk.data for chunk in chunks) == sound
