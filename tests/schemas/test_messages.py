"""Messages are frozen, check themselves, survive the wire, and refuse what they cannot understand."""

import contextlib

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.consent import Consent, Evidence, Identity, require_consent
from schemas.decisions import PER_CAUSE, DropVideoUntil, decision_id, policy_decisions
from schemas.errors import CodecError, Refused
from schemas.events import DropReason, SessionStarted, VideoDropped, VideoProcessed, WorkerTook, metric_events
from schemas.ids import EntryId, IdSource
from schemas.media import MediaHeader, pack, pcm_duration_us, unpack
from schemas.message import encode

COUNTS = st.integers(0, 2**63 - 1)
VIDEO = st.builds(
    VideoProcessed,
    id=st.builds(lambda ms, n: str(EntryId(ms, n)), COUNTS, COUNTS),
    pts_us=st.integers(-(2**62), 2**62),
    epoch=COUNTS,
    runtime_us=COUNTS,
    stages_us=st.dictionaries(st.text(max_size=8), COUNTS, max_size=4),
    faces=COUNTS,
    detector_ran=st.booleans(),
    confidence_pm=st.integers(0, 1000),
    outcome=st.sampled_from(["swapped", "covered", "passed"]),
)


@given(VIDEO)
def test_a_message_survives_the_wire_unchanged(event: VideoProcessed) -> None:
    data = encode(event)
    assert metric_events.decode(data) == event
    assert encode(metric_events.decode(data)) == data


@given(VIDEO)
def test_the_wire_format_is_plain_messagepack(event: VideoProcessed) -> None:
    plain = msgpack.unpackb(encode(event), strict_map_key=False)
    assert plain["t"] == "video_processed"
    assert plain["v"] == 1
    assert plain["pts_us"] == event.pts_us


def test_unknown_fields_of_a_newer_writer_are_ignored() -> None:
    plain = msgpack.unpackb(encode(WorkerTook(kind="video", worker="w", epoch=3)))
    assert metric_events.decode(msgpack.packb(plain | {"new": [1, 2]})) == WorkerTook(kind="video", worker="w", epoch=3)


def test_an_unknown_version_is_refused_by_name() -> None:
    plain = msgpack.unpackb(encode(WorkerTook(kind="video", worker="w", epoch=3)))
    with pytest.raises(CodecError, match=r"'worker_took' has version 2; this build speaks version 1"):
        metric_events.decode(msgpack.packb(plain | {"v": 2, "epoch": "changed"}))


@given(st.binary(max_size=64))
def test_garbage_is_a_codec_error_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        metric_events.decode(data)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"epoch": -1}, "epoch"), ({"epoch": "x"}, "epoch"), ({"t": "nothing"}, "nothing"), ({"kind": 3}, "kind")],
)
def test_a_bad_field_is_named(change: dict[str, object], named: str) -> None:
    plain = msgpack.unpackb(encode(WorkerTook(kind="video", worker="w", epoch=3)))
    with pytest.raises(CodecError, match=named):
        metric_events.decode(msgpack.packb(plain | change))


def test_construction_checks_too_and_messages_are_frozen() -> None:
    with pytest.raises(ValueError, match=r"WorkerTook.epoch is -1"):
        WorkerTook(kind="video", worker="w", epoch=-1)
    with pytest.raises(ValueError, match="version 7"):
        SessionStarted(v=7)
    with pytest.raises(AttributeError):
        SessionStarted().chunk_ms = 96  # type: ignore[misc]


def test_drop_reasons_travel_as_words() -> None:
    event = VideoDropped(id="1-0", pts_us=0, epoch=1, reason=DropReason.LATE)
    assert msgpack.unpackb(encode(event))["reason"] == "late"


@given(st.integers(0, 2**40), st.integers(0, 2**20), st.integers(0, PER_CAUSE - 1), st.integers(0, PER_CAUSE - 1))
def test_decision_ids_are_ordered_as_their_causes(ms: int, n: int, k: int, other: int) -> None:
    cause = EntryId(ms, n)
    assert decision_id(cause, k) < decision_id(cause.successor(), other)
    assert (decision_id(cause, k) < decision_id(cause, other)) == (k < other)


def test_one_cause_has_room_for_a_fixed_number_of_decisions() -> None:
    with pytest.raises(ValueError, match="at most 64"):
        decision_id(EntryId(1, 0), PER_CAUSE)
    decision = DropVideoUntil(cause="1-0", rule="sync.drop", floor_us=-5)
    assert policy_decisions.decode(encode(decision)) == decision


@given(st.lists(st.integers(0, 2**41), min_size=1), st.builds(EntryId, st.integers(0, 2**41), st.integers(0, 99)))
def test_ids_rise_whatever_the_clock_does(clock: list[int], last: EntryId) -> None:
    readings = iter(clock)
    source = IdSource(last, lambda: next(readings))
    taken = [source.take() for _ in clock]
    assert [last, *taken] == sorted({last, *taken})


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "a-b", "1-2\n", "\u0661-\u0662", "9" * 21 + "-0"])
def test_a_bad_id_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="not a stream entry ID"):
        EntryId.parse(text)


def test_media_entries_keep_their_payload_as_it_is() -> None:
    header = MediaHeader(pts_us=-64_000, sent_us=5)
    entry = unpack(EntryId(1, 0), pack(header, b"\xff\xd8payload"))
    assert (entry.header, entry.data) == (header, b"\xff\xd8payload")
    with pytest.raises(CodecError, match="no field"):
        unpack(EntryId(1, 0), {b"h": encode(header)})
    assert pcm_duration_us(bytes(2 * 3072)) == 192_000


def consent(**changes: object) -> Consent:
    base: dict[str, object] = {
        "subject": "A",
        "granted_to": "b",
        "scope": ("face", "live"),
        "purpose": "p",
        "expires_ms": 1000,
        "evidence": Evidence(statement="s", by="op"),
    }
    return msgspec.convert(base | changes, Consent)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"subject": " "}, "subject"),
        ({"purpose": ""}, "purpose"),
        ({"granted_to": ""}, "granted_to"),
        ({"scope": ()}, "scope"),
        ({"scope": ("face", "everything")}, "everything"),
        ({"evidence": Evidence(statement="", by="op")}, "evidence"),
    ],
)
def test_a_consent_record_that_says_nothing_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        consent(**changes)


def identity(*, revoked: bool = False, **changes: object) -> Identity:
    return Identity(
        id="i",
        label="l",
        kinds=("face",),
        owner="o",
        created_ms=0,
        consent=consent(**changes),
        revoked=revoked,
    )


def test_consent_that_covers_everything_passes() -> None:
    require_consent(identity(), kind="face", wearer="b", now_ms=999)
    require_consent(identity(granted_to="*"), kind="face", wearer="anyone", now_ms=999)


@pytest.mark.parametrize(
    ("worn", "wearer", "kind", "now_ms", "recorded", "why"),
    [
        (identity(), "b", "face", 1000, False, "expired"),
        (identity(), "c", "face", 0, False, "not granted"),
        (identity(), "b", "voice", 0, False, "no voice"),
        (identity(), "b", "face", 0, True, "record"),
        (identity(scope=("face",)), "b", "face", 0, False, "live"),
        (identity(revoked=True), "b", "face", 0, False, "revoked"),
    ],
)
def test_consent_that_does_not_cover_it_refuses(
    worn: Identity, wearer: str, kind: str, now_ms: int, *, recorded: bool, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        require_consent(worn, kind=kind, wearer=wearer, now_ms=now_ms, recorded=recorded)
