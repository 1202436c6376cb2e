"""Memory of the NVIDIA GPU that this process computes on, as its driver tells: NVML, the library behind `nvidia-smi`.

ONNX Runtime's Python interface says nothing of its GPU arena, and what TensorRT takes would not be in it. The driver
knows what a process holds, whoever in it asked. It does not know how much of that the arena has handed out, nor its
largest free block. Shapes are settled once an engine is warm, so what a process holds beyond that is fragmentation or
a leak, and that is told instead.

Which GPU, or MIG slice of one, in this order:

1. the one whose list of computing processes holds this one. Some drivers list the process numbers of the host in a
   container, which here belong to somebody else: a list that names a process which is not here is not believed;
2. the one that CUDA_VISIBLE_DEVICES names first, by UUID. CUDA's own numbers are not NVML's;
3. the only one.

Otherwise nothing is known. Version 560 of the driver lists processes with 0 bytes in a container: then what this one
holds is not known either.
"""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from workers.reports import GpuFigures

EVERY_S = 5.0
"""A look takes a millisecond or so, and hangs where the driver hangs: never on the event loop, nor on the engine's."""

_log = structlog.get_logger(__name__)


class GpuMemory:
    """What the driver says, asked anew every few seconds once `watch` was called."""

    def __init__(self, nvml: Any) -> None:
        """Ask `nvml`, the module `pynvml` with its library initialised."""
        self._nvml, self._pid = nvml, os.getpid()
        self._errors = (nvml.NVMLError, nvml.NVMLLibraryMismatchError)
        self._latest: GpuFigures | None = None
        self._silent = False

    def look(self) -> GpuFigures | None:
        """Return the figures of now, without `grown`; None where they are not known. May take long."""
        try:
            found = self._figures()
        except self._errors as error:
            if not self._silent:
                _log.warning("gpu_memory_is_not_known", reason=str(error))
            self._silent = True
            return None
        self._silent = False
        return found

    def held(self) -> int | None:
        """Return bytes that this process holds now, on all GPUs; None where the driver does not say. May take long."""
        try:
            own = [self._own(card) for card in self._cards()]
        except self._errors:
            return None
        known = [entries for entries in own if entries is not None and all(entries)]
        return sum(map(sum, known)) if len(known) == len(own) else None

    def watch(self, every_s: float = EVERY_S) -> None:
        """Take what is held now for what the engine needs, and look again every `every_s` seconds, on a thread.

        The thread ends with the process.
        """
        warm = self._latest = self.look()
        if warm is not None and warm.held is not None:
            self._latest = replace(warm, grown=0)
        threading.Thread(target=self._watch, args=(warm, every_s), name="gpu-memory", daemon=True).start()

    def figures(self) -> GpuFigures | None:
        """Return what was found last; None while nothing is watched or known. Takes no time."""
        return self._latest

    def _watch(self, warm: GpuFigures | None, every_s: float) -> None:
        base = None if warm is None else warm.held
        try:
            while True:
                time.sleep(every_s)
                found = self.look()
                if found is not None and found.held is not None:
                    base = found.held if base is None else base
                    found = replace(found, grown=found.held - base)
                self._latest = found
        finally:
            self._latest = None  # whatever ended it: figures that nobody renews are worse than none

    def _figures(self) -> GpuFigures | None:
        cards = list(self._cards())
        held = {at: sum(own) for at, card in enumerate(cards) if (own := self._own(card))}
        at = max(held, key=lambda at: held[at]) if held else self._chosen(cards)
        if at is None:
            return None
        memory = self._nvml.nvmlDeviceGetMemoryInfo(cards[at])
        return GpuFigures(held=held.get(at) or None, grown=None, used=memory.used, total=memory.total)

    def _own(self, card: Any) -> list[int] | None:
        """Return bytes on `card` of each entry of this process, 0 where the driver does not say; None: not believed."""
        listed = self._nvml.nvmlDeviceGetComputeRunningProcesses(card)
        if not all(Path(f"/proc/{process.pid}").exists() for process in listed):
            return None
        return [process.usedGpuMemory or 0 for process in listed if process.pid == self._pid]

    def _chosen(self, cards: list[Any]) -> int | None:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if named.startswith(("GPU-", "MIG-")):
            uuids = [str(self._nvml.nvmlDeviceGetUUID(card)) for card in cards]
            return next((at for at, uuid in enumerate(uuids) if uuid.startswith(named)), None)
        return 0 if len(cards) == 1 else None

    def _cards(self) -> Iterator[Any]:
        """Return handles of all GPUs; of one in MIG mode those of its slices."""
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetCount()):
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            if not self._sliced(card):
                yield card
                continue
            for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
                try:
                    yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, slot)
                except nvml.NVMLError_NotFound:
                    continue  # an empty slot

    def _sliced(self, card: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(card)
        except self._nvml.NVMLError_NotSupported:
            return False
        return bool(current == self._nvml.NVML_DEVICE_MIG_ENABLE)


def open_gpu_memory() -> GpuMemory | None:
    """Return the memory of this process's GPU; None, and a line in the log, without its driver or `nvidia-ml-py`."""
    try:
        import pynvml  # noqa: PLC0415 - an extra: only where there is a GPU
    except ImportError:
        _log.warning("gpu_memory_is_not_known", reason="nvidia-ml-py is not installed: pip install -e '.[gpu]'")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log.warning("gpu_memory_is_not_known", reason=str(error))
        return None
    return GpuMemory(pynvml)
