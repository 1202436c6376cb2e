"""Time, and the engines that sessions share. A discrete-event loop: nothing happens between two events."""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.policy.simulator.load import Slow, times_pm


class Timeline:
    """What is to happen, in order of time, then of being asked for."""

    def __init__(self) -> None:
        self.now_us = 0
        self._asked = 0
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, wait_us: int, call: Callable[..., None], *args: Any) -> None:
        """Let `call(*args)` happen `wait_us` from now."""
        self._asked += 1
        heapq.heappush(self._due, (self.now_us + wait_us, self._asked, call, args))

    def run(self, until_us: int) -> None:
        """Let everything happen that is due before `until_us`."""
        while self._due and self._due[0][0] < until_us:
            self.now_us, _, call, args = heapq.heappop(self._due)
            call(*args)
        self.now_us = until_us


class Engine:
    """One engine, one job at a time, first come first served: what an engine's thread is to the sessions of a worker.

    `noise_pm` is how far a job may be off its cost, either way.
    """

    def __init__(self, timeline: Timeline, *, seed: int, noise_pm: int, slow: Sequence[Slow]) -> None:
        self._timeline, self._random, self._noise_pm, self._slow = timeline, Random(seed), noise_pm, slow
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._busy = False
        self._life = 0

    def submit(self, cost_us: int, done: Callable[[], None]) -> None:
        """Do a job of this cost after those that wait; `done` is called when it is."""
        self._waiting.append((cost_us, done))
        if not self._busy:
            self._begin()

    def restart(self) -> None:
        """Lose everything at hand: the process died, and another one is in its place."""
        self._waiting.clear()
        self._busy = False
        self._life += 1

    def _begin(self) -> None:
        cost_us, done = self._waiting.popleft()
        factor = times_pm(self._slow, self._timeline.now_us) if self._slow else 1000
        if self._noise_pm:
            factor = factor * (1000 + self._random.randint(-self._noise_pm, self._noise_pm)) // 1000
        self._busy = True
        self._timeline.after(cost_us * factor // 1000, self._end, self._life, done)

    def _end(self, life: int, done: Callable[[], None]) -> None:
        if life != self._life:
            return
        self._busy = False
        done()
        if self._waiting and not self._busy:
            self._begin()
