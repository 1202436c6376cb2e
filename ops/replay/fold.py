"""Folds a session's recorded metrics with the driver that live policy uses."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ops.replay.compare import Written
from ops.replay.state import readable
from policy.driver import Driver
from policy.reducer import PolicyState
from schemas.bus.base import Entry
from schemas.events import EVENT, MetricEvent, metric_events
from schemas.ids import ZERO, EntryId
from schemas.message import encode
from schemas.policy_config import PolicyConfig

Observer = Callable[[EntryId, MetricEvent, PolicyState], None]
"""Told of every readable event after it was folded, with the state that it led to."""


@dataclass(slots=True)
class Folded:
    """What folding a session led to."""

    events: int = 0
    unreadable: int = 0
    """Entries that the driver passed over, as the live service did."""
    last: EntryId = ZERO
    decisions: list[Written] = field(default_factory=list)


def fold(entries: Iterable[Entry], *, config: PolicyConfig | None = None, observe: Observer | None = None) -> Folded:
    """Fold metric entries, oldest first; under `config` instead of the recorded thresholds where it is given."""
    driver, folded = Driver(config=config), Folded()
    for entry in entries:
        data = entry.fields.get(EVENT, b"")
        folded.events += 1
        folded.last = entry.id
        decisions = driver.fold(entry.id, data)
        if decisions:
            folded.decisions.extend(Written(found, encode(decision)) for found, decision in decisions)
        if observe is not None and driver.error is None:
            observe(entry.id, metric_events.decode(data), driver.state)
    folded.unreadable = driver.state.unreadable
    return folded


def state_around(entries: Iterable[Entry], cause: EntryId) -> tuple[Any, Any]:
    """Return the policy's state before and after the event `cause`, readable."""
    driver = Driver()
    for entry in entries:
        if entry.id > cause:
            break
        if entry.id == cause:
            before = readable(driver.state)
            driver.fold(entry.id, entry.fields.get(EVENT, b""))
            return before, readable(driver.state)
        driver.fold(entry.id, entry.fields.get(EVENT, b""))
    state = readable(driver.state)
    return state, state
