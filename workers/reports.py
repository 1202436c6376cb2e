"""What a media task says beside outcomes: its backlog, its detector, its acceptance, its memory. Pure.

| report | when | from |
|---|---|---|
| `Backlog` | every second in which input flows | what was read and not yet begun, and what lies beyond |
| `Detections` | every five seconds of processed video | the outcomes |
| `Acceptance` | every five seconds of processed sound, if any of it was converted | the outcomes |
| `Gpu` | when the task opens; then every ten seconds in which input flows, where there are figures | the engine |

Reports ride with an outcome, in its round trip: a session that is not fed says nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from schemas.events import Acceptance, AudioProcessed, Backlog, Detections, Gpu, Outcome, Report, VideoProcessed
from schemas.ids import EntryId
from schemas.names import Kind
from schemas.task import Lease
from workers.tallies import AcceptanceTally, DetectorTally

BACKLOG_EVERY_US = 1_000_000
MEMORY_EVERY_US = 10_000_000


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """Memory of one GPU (or of the slice of one that is this process's) in bytes."""

    held: int | None
    """By this process: weights, buffers, what its allocators keep, the driver's own. None where nobody tells."""
    grown: int | None
    """By which `held` has changed since the engine was warm. None where `held` is."""
    used: int
    """By all processes, and the driver."""
    total: int


@runtime_checkable
class MemoryFigures(Protocol):
    """What an engine that computes on a GPU offers beside its own contract."""

    def memory(self) -> GpuFigures | None:
        """Return the last figures known; None while there are none, as on a CPU.

        It is called from the event loop: it must neither wait nor compute.
        """
        ...


class Reports:
    """The reports of one lease: one producer, numbered from 1."""

    def __init__(self, lease: Lease, engine: object = None) -> None:
        """Take the time from the lease's clock, and memory from `engine` if it offers `MemoryFigures`."""
        self._clock, self._kind = lease.clock, lease.kind
        self._producer = f"{lease.worker}:{lease.keys.sid}:{lease.epoch}"
        self._seq = 0
        self._figures = engine if isinstance(engine, MemoryFigures) else None
        self._detector = DetectorTally()
        self._acceptance = AcceptanceTally(lease.session.config.chunk_accept_pm)
        self._backlog_due_us = self._memory_due_us = self._clock.monotonic_us()

    def opened(self) -> list[Report]:
        """Return the reports of a task that begins."""
        self._memory_due_us = self._clock.monotonic_us() + MEMORY_EVERY_US
        return [self._gpu(None if self._figures is None else self._figures.memory())]

    def due(self, outcomes: Sequence[Outcome], *, waiting: int) -> list[Report]:
        """Return what is to be reported with `outcomes`, while `waiting` inputs wait behind them."""
        now_us = self._clock.monotonic_us()
        due: list[Report] = []
        if now_us >= self._backlog_due_us:
            self._backlog_due_us = now_us + BACKLOG_EVERY_US
            due.append(self._make(Backlog, **{"video" if self._kind is Kind.VIDEO else "audio": waiting}))
        if self._figures is not None and now_us >= self._memory_due_us:
            self._memory_due_us = now_us + MEMORY_EVERY_US
            memory = self._figures.memory()
            if memory is not None:
                due.append(self._gpu(memory))
        for outcome in outcomes:
            if isinstance(outcome, VideoProcessed) and (detections := self._detector.after(outcome)):
                due.append(self._make(Detections, **detections))
            elif isinstance(outcome, AudioProcessed) and (acceptance := self._acceptance.after(outcome)):
                due.append(self._make(Acceptance, **acceptance))
        return due

    def _gpu(self, memory: GpuFigures | None) -> Report:
        return self._make(Gpu, kind=self._kind.value, **({} if memory is None else asdict(memory)))

    def _make(self, report: Callable[..., Report], **fields: Any) -> Report:
        self._seq += 1
        return report(producer=self._producer, seq=self._seq, **fields)


def beyond(ids: Sequence[EntryId], newest_ms: int) -> int:
    """Return about how many inputs lie between the last of `ids` and `newest_ms`, at the pace of `ids`.

    Counting them on the server would read them; their pace is known from those that were read.
    """
    took_ms = ids[-1].ms - ids[0].ms
    return (newest_ms - ids[-1].ms) * (len(ids) - 1) // took_ms if took_ms > 0 else 0
