"""What `mirage replay --policy` says of a session: the same, or where it differs and what was known there."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ops.archive.model import MEDIA_STREAMS
from ops.replay.compare import Comparison, Difference, Written, compare
from ops.replay.fold import Folded, Observer, fold, state_around
from ops.replay.state import changes
from ops.replay.story import Story
from ops.replay.words import decision_text, event_text, name_of
from schemas.decisions import policy_decisions
from schemas.errors import CodecError, Misconfigured
from schemas.events import EVENT, metric_events
from schemas.ids import EntryId
from schemas.message import as_json
from schemas.policy_config import RULES_VERSION

_OF_MEDIA = tuple(f"{stream}: " for stream in MEDIA_STREAMS)
"""How the archive's sentences on gaps in media begin."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of folding a session and comparing its decisions."""

    sid: str
    events: int
    decisions: int
    """Recorded decisions that were compared."""
    same: int
    first_difference: dict[str, Any] | None
    problems: list[str]
    rules_version: int | None
    complete: bool
    pending: int = 0
    ahead: int = 0

    @property
    def exit_code(self) -> int:
        """0 same, 3 different, 1 damaged: what is missing may be the reason for any difference."""
        if self.damaged:
            return 1
        return 0 if self.first_difference is None else 3

    @property
    def damaged(self) -> bool:
        """Whether something is wrong with the events; pictures and sound that were not recorded decide nothing."""
        return any(not problem.startswith(_OF_MEDIA) for problem in self.problems)

    @property
    def lacks_the_end(self) -> bool:
        """Whether only the last decisions are missing from the record."""
        told = self.first_difference
        return told is not None and told["kind"] == "missing" and self.same == self.decisions

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


@dataclass(slots=True)
class Replayed:
    """A verdict, and the decisions that folding led to."""

    verdict: Verdict
    folded: Folded = field(default_factory=Folded)

    @property
    def comparable(self) -> bool:
        """Whether the session ran under this build's rules, so that folding it says something."""
        return self.verdict.rules_version == RULES_VERSION and self.folded.events > 0


def replay(session: Story, *, observe: Observer | None = None) -> Replayed:
    """Fold the session's metrics under its own thresholds and compare every decision."""
    begins = session.opening
    version = begins.started.rules_version if begins.started else None
    problems = list(session.problems)
    if version is None:
        problems.append("the metrics do not begin with session_started: thresholds and rules are not known")
    elif version != RULES_VERSION:
        problems.append(
            f"recorded under rules version {version}, and this build has {RULES_VERSION}: the same events lead to"
            " other decisions, so nothing was compared; replay it with the build that recorded it"
        )
    if version != RULES_VERSION:
        events = len(session.metrics)
        return Replayed(Verdict(session.sid, events, 0, 0, None, problems, version, begins.complete))
    try:
        folded = fold(session.metrics, observe=observe)
    except Misconfigured as error:  # what no service could have run on: the recording says something impossible
        problems.append(f"the events cannot be folded: {error}")
        verdict = Verdict(session.sid, len(session.metrics), 0, 0, None, problems, version, begins.complete)
        return Replayed(verdict)
    found = compare(folded.decisions, session.decisions, complete=begins.complete, last_metric=folded.last)
    verdict = Verdict(
        session.sid,
        folded.events,
        len(session.decisions) - found.ahead,
        found.same,
        _told(session, found),
        problems,
        version,
        begins.complete,
        found.pending,
        found.ahead,
    )
    return Replayed(verdict, folded)


def _told(session: Story, found: Comparison) -> dict[str, Any] | None:
    """Return the first difference with all that helps to understand it."""
    difference = found.difference
    if difference is None:
        return None
    cause = difference.cause
    before, after = state_around(session.metrics, cause)
    return {
        "kind": difference.kind,
        "position": found.same,
        "expected": _decision(difference.expected),
        "got": _decision(difference.got),
        "cause": _cause(session, cause),
        "state_before": before,
        "changed": {name: list(pair) for name, pair in changes(before, after).items()},
        "meaning": _meaning(difference),
    }


def _meaning(difference: Difference) -> str:
    match difference.kind:
        case "changed":
            return "folding the recorded events leads to another decision than the recorded one"
        case "missing":
            return "folding the recorded events leads to a decision that was not recorded"
        case _:
            return "a decision was recorded that the recorded events do not lead to"


def _decision(written: Written | None) -> dict[str, Any] | None:
    if written is None:
        return None
    told: dict[str, Any] = {"id": str(written.id), "bytes": written.data.hex()}
    try:
        decision = policy_decisions.decode(written.data)
    except CodecError as error:
        return told | {"unreadable": str(error)}
    return told | {"decision": as_json(decision), "text": f"{decision.rule}: {decision_text(decision)}"}


def _cause(session: Story, cause: EntryId) -> dict[str, Any]:
    entry = next((entry for entry in session.metrics if entry.id == cause), None)
    if entry is None:
        return {"id": str(cause), "text": "no such metric event is recorded"}
    try:
        event = metric_events.decode(entry.fields.get(EVENT, b""))
    except CodecError as error:
        return {"id": str(cause), "unreadable": str(error)}
    return {"id": str(cause), "event": as_json(event), "text": f"{name_of(event)}: {event_text(event)}"}
