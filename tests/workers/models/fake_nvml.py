"""NVML as `pynvml` offers it, for machines without an NVIDIA driver: GPUs, MIG slices, processes, errors.

Names, arguments and errors are those of nvidia-ml-py 13.615; what the fake lacks, the code must not call.
"""

from dataclasses import dataclass, field


class NVMLError(Exception):
    """As NVML answers."""


class NotFound(NVMLError):
    """There is none at that place."""


class NotSupported(NVMLError):
    """This GPU has no such thing."""


class LibraryMismatch(Exception):
    """The driver is older than the package; no NVMLError there either."""


@dataclass
class Process:
    """An entry of a card's list."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815 - NVML's name


@dataclass
class Memory:
    """A card's, in bytes."""

    total: int
    used: int


@dataclass
class FakeCard:
    """A GPU, or a slice of one; `slices`: of a GPU in MIG mode, None for an empty place."""

    uuid: str
    total: int = 24_000
    used: int = 0
    processes: list[Process] = field(default_factory=list)
    slices: "list[FakeCard | None] | None" = None
    knows_mig: bool = True


class FakeNvml:
    """The module."""

    NVMLError = NVMLError
    NVMLError_NotFound = NotFound
    NVMLError_NotSupported = NotSupported
    NVMLLibraryMismatchError = LibraryMismatch
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *cards: FakeCard) -> None:
        self.cards = cards
        self.refusal: Exception | None = None
        self.looks = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self._answer()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._answer()
        self.looks += 1
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: FakeCard) -> str:  # noqa: N802
        return card.uuid

    def nvmlDeviceGetMigMode(self, card: FakeCard) -> list[int]:  # noqa: N802
        if not card.knows_mig:
            raise NotSupported("Not Supported")
        return [int(card.slices is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, card: FakeCard) -> int:  # noqa: N802
        return len(card.slices or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: FakeCard, index: int) -> FakeCard:  # noqa: N802
        found = None if card.slices is None else card.slices[index]
        if found is None:
            raise NotFound("Not Found")
        return found

    def nvmlDeviceGetMemoryInfo(self, card: FakeCard) -> Memory:  # noqa: N802
        return Memory(card.total, card.used)

    def nvmlDeviceGetComputeRunningProcesses(self, card: FakeCard) -> list[Process]:  # noqa: N802
        self._answer()
        return list(card.processes)

    def _answer(self) -> None:
        if self.refusal is not None:
            raise self.refusal
