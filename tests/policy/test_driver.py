"""The driver of live and replay: it decodes, folds as `step` does, passes over what it cannot read, and resumes."""

from dataclasses import dataclass

import pytest

from policy.driver import Driver
from policy.reducer import Decided, PolicyState
from policy.snapshot import pack, unpack
from schemas.decisions import PER_CAUSE, decision_id
from schemas.errors import Misconfigured
from schemas.events import SessionStarted
from schemas.ids import EntryId
from schemas.message import encode
from schemas.policy_config import PolicyConfig
from tests.policy.tape import Tape, eventful, rules

RULES = {
    "audio.fail",
    "audio.grow",
    "audio.latency",
    "audio.restore",
    "audio.shrink",
    "health.invalid",
    "sync.caught_up",
    "sync.drop",
    "sync.no_gain",
    "sync.skip",
    "sync.sleep",
    "video.drops",
    "video.late",
    "video.overload",
    "video.probe",
    "video.slow",
    "video.up",
}


@dataclass
class Recorded:
    """A session in which every rule fires, as it is recorded, and what one fold of it decides."""

    entries: list[tuple[EntryId, bytes]]
    state: PolicyState
    decided: list[Decided]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    tape = eventful()
    assert set(rules(tape.decided)) == RULES
    entries = [(entry_id, encode(event)) for entry_id, event in tape.events]
    driver = Driver()
    decided = [found for entry_id, data in entries for found in driver.fold(entry_id, data)]
    assert [decision for _, decision in decided] == tape.decided
    assert driver.state == tape.state
    return Recorded(entries, driver.state, decided)


def test_decisions_are_numbered_by_their_cause(recorded: Recorded) -> None:
    causes: dict[str, int] = {}
    for found_id, decision in recorded.decided:
        k = causes.get(decision.cause, 0)
        assert found_id == decision_id(EntryId.parse(decision.cause), k)
        causes[decision.cause] = k + 1
    assert max(causes.values()) > 1
    assert max(causes.values()) < PER_CAUSE
    ids = [found_id for found_id, _ in recorded.decided]
    assert ids == sorted(ids)


def test_a_session_that_resumes_from_a_snapshot_at_any_entry_decides_the_same(recorded: Recorded) -> None:
    """A snapshot is taken after every entry, and the rest of the fold goes on from its bytes."""
    state: PolicyState | None = None
    decided: list[Decided] = []
    for entry_id, data in recorded.entries:
        driver = Driver(state)
        decided += driver.fold(entry_id, data)
        state = unpack(pack(driver.state))
        assert state == driver.state
    assert state == recorded.state
    assert decided == recorded.decided


def test_what_cannot_be_read_is_passed_over_and_counted() -> None:
    tape, driver = Tape(), Driver()
    for entry_id, event in tape.events:
        driver.fold(entry_id, encode(event))
    unreadable = b'{"t":1}', b"", encode(SessionStarted())[:-1]
    for n, data in enumerate(unreadable):
        assert driver.fold(EntryId(2_000_000, n), data) == ()
        assert driver.error is not None
        assert driver.state.folded == (2_000_000, n)
    assert driver.state.unreadable == 3
    driver.fold(EntryId(2_000_000, 0), b"")
    assert driver.state.unreadable == 3, "an entry that was passed over is folded once, too"
    tape.ms = 2_000_001
    tape.frame()
    entry_id, event = tape.events[-1]
    driver.fold(entry_id, encode(event))
    assert driver.error is None
    assert driver.state.video_id == (1, 0)


def test_another_config_stands_in_for_the_recorded_one(recorded: Recorded) -> None:
    lenient = PolicyConfig(invalid_frames=200, video_down_frames=1000, chunk_grow_chunks=1000)
    driver = Driver(config=lenient)
    decided = [decision for entry_id, data in recorded.entries for _, decision in driver.fold(entry_id, data)]
    assert driver.state.config == lenient
    fired = set(rules(decided))
    assert fired.isdisjoint({"health.invalid", "video.slow", "audio.grow", "audio.fail"})
    assert {"sync.drop", "sync.skip", "video.drops"} <= fired


def test_another_config_holds_from_a_snapshot_on(recorded: Recorded) -> None:
    config = PolicyConfig(video_down_frames=7)
    assert Driver(recorded.state, config=config).state.config == config


def test_a_session_of_other_rules_is_not_passed_over() -> None:
    with pytest.raises(Misconfigured, match="rules version 99"):
        Driver().fold(EntryId(1, 0), encode(SessionStarted(rules_version=99)))


@pytest.mark.parametrize(
    ("name", "value"), [("ratio_memory", 0), ("sync_gap_memory", 0), ("invalid_frames", 0), ("skip_of", -1)]
)
def test_thresholds_that_no_fold_could_work_with_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"PolicyConfig\.{name} is {value}; expected a whole number >="):
        PolicyConfig(**{name: value})
