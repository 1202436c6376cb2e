"""One policy replay from its source to its page."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ops.archive.live import KeptSession
from ops.archive.model import RecordedSession
from ops.archive.reader import ArchivedSession
from ops.replay.report.page import ReplayReport, WhatIf, render
from ops.replay.report.sheet import Pair, pairs
from ops.replay.story import Story
from ops.replay.timeline import Collector, SessionTimeline
from ops.replay.verdict import Verdict, replay
from ops.replay.what_if import what_if
from schemas.errors import CodecError
from schemas.events import EVENT, metric_events
from schemas.policy_config import PolicyConfig

_SETTLE_S = 3.0

Choose = Callable[[PolicyConfig], PolicyConfig]
"""Given the recorded thresholds, returns others."""


@dataclass(frozen=True, slots=True)
class PolicyReplay:
    """A session, what comparing it said, and what its report shows."""

    story: Story
    verdict: Verdict
    timeline: SessionTimeline
    what_if: WhatIf | None = None
    pictures: list[Pair] = field(default_factory=list)
    media_unread: bool = False
    """Nobody knows whether all recorded pictures and sound are intact: decisions do not need them."""

    def page(self) -> str:
        """Return the report."""
        return render(
            ReplayReport(self.story, self.verdict, self.timeline, self.what_if, self.pictures, self.media_unread)
        )


Find = Callable[[], Awaitable[RecordedSession]]


async def replay_found(find: Find, *, config: Choose | None, tell: bool, pictures: bool) -> PolicyReplay:
    """Replay what `find` finds; what is on streams is fetched again while the end of its decisions is on its way.

    A session that ended a moment ago may lack the last decisions of a policy service that has not folded to the end.
    """
    due = time.monotonic() + _SETTLE_S
    while True:
        session = await find()
        done = replay_session(session, config=config, tell=tell, pictures=pictures)
        if not (isinstance(session, KeptSession) and done.verdict.lacks_the_end and time.monotonic() < due):
            return done
        await asyncio.sleep(0.2)


def replay_session(
    session: RecordedSession, *, config: Choose | None = None, tell: bool = False, pictures: bool = False
) -> PolicyReplay:
    """Replay a session that was opened; under other thresholds too where `config` chooses some.

    `tell`: collect what a report needs, with `pictures` where video was recorded.
    """
    story = Story.of(session)
    collector = Collector(story.decisions)
    done = replay(story, observe=collector.see if tell else None)
    other = None
    if config is not None and done.comparable:
        other = what_if(story, config(story.opening.config))
    line = collector.timeline
    if tell and not done.comparable:
        _collect_unfolded(story, collector)
    shown = pairs(session, start_ms=line.start_ms, length_ms=line.length_ms) if tell and pictures else []
    unread = isinstance(session, ArchivedSession) and not session.is_checked
    return PolicyReplay(story, done.verdict, line, other, shown, unread)


def _collect_unfolded(story: Story, collector: Collector) -> None:
    """Tell what happened under rules that this build does not have: everything but what the state would say."""
    for entry in story.metrics:
        try:
            event = metric_events.decode(entry.fields.get(EVENT, b""))
        except CodecError:
            continue
        collector.see(entry.id, event, None)
