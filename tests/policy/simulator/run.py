"""Runs sessions on shared engines, and says what the policy did in figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decisions import PolicyDecision, SetChunk, SetVideo
from tests.policy.simulator.load import Slow
from tests.policy.simulator.machine import Engine, Timeline
from tests.policy.simulator.session import SECOND_US, Client, Session


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated."""

    minutes: int
    clients: Sequence[Client] = (Client(),)
    noise_pm: int = 100
    slow: Sequence[Slow] = ()
    """Of the machine's, for picture and sound."""
    deaths_s: Sequence[int] = ()
    """When the video worker dies."""
    down_s: int = 4
    """Until another one has taken over: a lease, and its start."""
    seed: int = 1


@dataclass(frozen=True)
class Seen:
    """What one session went through."""

    minutes: int
    decided: Sequence[tuple[int, PolicyDecision]]
    outcomes: Counter[str]
    session: Session

    def since(self, s: int) -> "Seen":
        """Return the part after this many seconds."""
        later = [found for found in self.decided if found[0] >= s * SECOND_US]
        return Seen(self.minutes - s // 60, later, self.outcomes, self.session)

    def between(self, from_s: int, to_s: int) -> Sequence[tuple[int, PolicyDecision]]:
        """Return what was decided in these seconds."""
        return [found for found in self.decided if from_s * SECOND_US <= found[0] < to_s * SECOND_US]

    @property
    def rules(self) -> Counter[str]:
        """How often each rule fired."""
        return Counter(decision.rule for _, decision in self.decided)

    @property
    def rungs(self) -> list[int]:
        """Video rungs, in order."""
        return [decision.rung for _, decision in self.decided if isinstance(decision, SetVideo)]

    @property
    def chunks(self) -> list[int]:
        """Chunk sizes in ms, in order."""
        return [decision.chunk_ms for _, decision in self.decided if isinstance(decision, SetChunk)]

    @property
    def rung(self) -> int:
        """The video rung at the end."""
        return self.session.driver.state.ladder.rung

    @property
    def chunk_ms(self) -> int:
        """The chunk size at the end."""
        return self.session.driver.state.audio.chunk_ms

    @property
    def steps_per_hour(self) -> float:
        """Steps of either ladder."""
        return (len(self.rungs) + len(self.chunks)) * 60 / self.minutes

    def at_s(self, rule: str) -> list[int]:
        """Return when a rule fired."""
        return [at_us // SECOND_US for at_us, decision in self.decided if decision.rule == rule]

    def rung_at(self, s: int) -> int:
        """Return the video rung at that second."""
        return next(
            (
                decision.rung
                for at_us, decision in reversed(self.decided)
                if isinstance(decision, SetVideo) and at_us < s * SECOND_US
            ),
            0,
        )

    def first_s(self, *, rung: int, after_s: int) -> int | None:
        """Return when the ladder first stood on a rung, at or after a time."""
        if self.rung_at(after_s) == rung:
            return after_s
        for at_us, decision in self.decided:
            if at_us >= after_s * SECOND_US and isinstance(decision, SetVideo) and decision.rung == rung:
                return at_us // SECOND_US
        return None


def run(scenario: Scenario) -> list[Seen]:
    """Simulate; the same scenario always gives the same."""
    timeline = Timeline()
    slow, seed = scenario.slow, scenario.seed
    video = Engine(timeline, seed=seed, noise_pm=scenario.noise_pm, slow=slow)
    voice = Engine(timeline, seed=seed + 1, noise_pm=scenario.noise_pm, slow=slow)
    sessions = [
        Session(timeline, client, seed=seed + 2 + n, video=video, voice=voice)
        for n, client in enumerate(scenario.clients)
    ]
    for n, session in enumerate(sessions):
        timeline.after(n * 37_000, session.begin)
    for death_s in scenario.deaths_s:
        timeline.after(death_s * SECOND_US, _die, video, sessions)
        timeline.after((death_s + scenario.down_s) * SECOND_US, _take_over, sessions)
    timeline.run(scenario.minutes * 60 * SECOND_US)
    return [Seen(scenario.minutes, session.decided, session.outcomes, session) for session in sessions]


def _die(video: Engine, sessions: Sequence[Session]) -> None:
    video.restart()
    for session in sessions:
        session.die()


def _take_over(sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.take_over()
