"""What is told of a GPU's memory, on a hand-written NVML: there is no GPU here, and none of this ran on one."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.waiting import until
from tests.workers.models import graphs
from tests.workers.models.fake_nvml import FakeCard, FakeNvml, LibraryMismatch, NVMLError, Process
from tests.workers.video.neural.standins import folder
from tests.workers.voice.neural.loading import VOICE, fill
from tests.workers.voice.neural.standins import voice
from workers.models.contract import GraphContract, Tensor
from workers.models.gpu_memory import GpuMemory, open_gpu_memory
from workers.models.runtime import Runtime
from workers.reports import GpuFigures, MemoryFigures
from workers.video.neural.engine import load_neural_face
from workers.voice.neural.engine import load_neural_voice

ME = os.getpid()
NOBODY = 2**22 + 1  # beyond the highest number that Linux gives to a process
AXES = (1, 3, 8, 8)
SCALER = GraphContract("a scaler", (Tensor("target", "float32", AXES),), (Tensor("output", "float32", AXES),))


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def watched() -> tuple[FakeCard, FakeNvml, GpuMemory]:
    """Watch a card of which this process holds 700 bytes when its engine is warm."""
    card = FakeCard("GPU-0", used=900, processes=[Process(ME, 700)])
    nvml = FakeNvml(card)
    memory = GpuMemory(nvml)
    assert memory.figures() is None
    memory.watch(0.01)
    return card, nvml, memory


async def shows(memory: GpuMemory, wanted: Callable[[GpuFigures | None], bool]) -> None:
    """Wait until the figures are such."""

    async def shown() -> bool:
        return wanted(memory.figures())

    await until(shown, what="the figures")


def test_the_figures_are_those_of_this_process_and_its_card() -> None:
    card = FakeCard("GPU-0", used=900, processes=[Process(1, 150), Process(ME, 700)])
    memory = GpuMemory(FakeNvml(card))
    assert memory.look() == GpuFigures(held=700, grown=None, used=900, total=24_000)
    assert memory.held() == 700


async def test_what_an_engine_holds_beyond_what_it_held_when_warm_has_grown(
    watched: tuple[FakeCard, FakeNvml, GpuMemory],
) -> None:
    card, _, memory = watched
    assert memory.figures() == GpuFigures(held=700, grown=0, used=900, total=24_000)
    card.processes, card.used = [Process(ME, 760)], 980
    await shows(memory, lambda found: found == GpuFigures(held=760, grown=60, used=980, total=24_000))
    card.processes = [Process(ME, 690)]
    await shows(memory, lambda found: found == GpuFigures(held=690, grown=-10, used=980, total=24_000))


@pytest.mark.parametrize("refusal", [NVMLError("GPU is lost"), LibraryMismatch("pyNVML does not match")])
async def test_a_driver_that_fails_leaves_nothing_stale_is_logged_once_and_may_recover(
    watched: tuple[FakeCard, FakeNvml, GpuMemory], refusal: Exception
) -> None:
    _, nvml, memory = watched
    with capture_logs() as lines:
        nvml.refusal = refusal
        await shows(memory, lambda found: found is None)
        assert memory.held() is None
        nvml.refusal = None
        await shows(memory, lambda found: found is not None)
    assert [(line["event"], line["reason"]) for line in lines] == [("gpu_memory_is_not_known", str(refusal))]
    assert memory.figures() == GpuFigures(held=700, grown=0, used=900, total=24_000)


def test_asking_for_the_figures_does_not_ask_the_driver() -> None:
    """The event loop asks; only the thread may wait for a driver that hangs."""
    nvml = FakeNvml(FakeCard("GPU-0"))
    memory = GpuMemory(nvml)
    memory.watch(3600)
    before = nvml.looks
    assert memory.figures() is not None
    assert nvml.looks == before


def test_when_the_watch_ends_by_a_mistake_no_stale_figures_stay() -> None:
    nvml = FakeNvml(FakeCard("GPU-0"))
    memory = GpuMemory(nvml)
    memory.watch(3600)
    assert memory.figures() is not None
    nvml.refusal = AssertionError("a mistake")
    with pytest.raises(AssertionError, match="a mistake"):
        memory._watch(None, 0)
    assert memory.figures() is None


@pytest.mark.parametrize("listed", [[], [Process(1, 500)], [Process(ME, None)], [Process(ME, 0)]])
def test_where_the_driver_does_not_name_this_process_only_the_card_is_known(listed: list[Process]) -> None:
    """As in containers: the list may be empty, or without figures. The card is ours, for it is the only one."""
    memory = GpuMemory(FakeNvml(FakeCard("GPU-0", used=900, processes=listed, knows_mig=False)))
    assert memory.look() == GpuFigures(held=None, grown=None, used=900, total=24_000)


def test_a_list_in_numbers_of_another_pid_namespace_is_not_believed() -> None:
    """Our number may be there by chance: it is somebody else's."""
    memory = GpuMemory(FakeNvml(FakeCard("GPU-0", used=900, processes=[Process(NOBODY, 100), Process(ME, 700)])))
    assert memory.look() == GpuFigures(held=None, grown=None, used=900, total=24_000)
    assert memory.held() is None


def test_of_several_cards_that_is_meant_which_lists_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # CUDA's number: its order is by speed, NVML's by place
    cards = [FakeCard("GPU-a", used=100), FakeCard("GPU-b", used=900, processes=[Process(ME, 700)])]
    assert GpuMemory(FakeNvml(*cards)).look() == GpuFigures(held=700, grown=None, used=900, total=24_000)


@pytest.mark.parametrize(
    ("chosen", "used"),
    [("GPU-b", 900), ("GPU-b1,GPU-a", 900), ("GPU-a", 100), ("GPU-c", None), ("1", None), ("", None)],
)
def test_else_the_one_that_cuda_is_told_by_uuid_or_none(
    monkeypatch: pytest.MonkeyPatch, chosen: str, used: int | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    found = GpuMemory(FakeNvml(FakeCard("GPU-a1", used=100), FakeCard("GPU-b1", used=900))).look()
    assert (None if found is None else found.used) == used


def test_of_a_gpu_in_mig_mode_the_slice_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = [FakeCard("MIG-a", total=5_000, used=90), None, FakeCard("MIG-b", total=9_000, used=800)]
    nvml = FakeNvml(FakeCard("GPU-0", used=890, slices=slices))
    memory = GpuMemory(nvml)
    assert memory.look() is None, "which of two slices is not known"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b")
    assert memory.look() == GpuFigures(held=None, grown=None, used=800, total=9_000)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slices[0] is not None
    slices[0].processes = [Process(ME, 80)]
    assert memory.look() == GpuFigures(held=80, grown=None, used=90, total=5_000)


def test_without_a_gpu_nothing_is_known() -> None:
    assert GpuMemory(FakeNvml()).look() is None


def test_without_the_package_or_the_driver_there_are_no_figures_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml(FakeCard("GPU-0"))
    with capture_logs() as lines:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert open_gpu_memory() is None
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        nvml.refusal = NVMLError("NVML Shared Library Not Found")
        assert open_gpu_memory() is None
    assert [line["reason"].split(":")[0] for line in lines] == [
        "nvidia-ml-py is not installed",
        "NVML Shared Library Not Found",
    ]
    nvml.refusal = None
    memory = open_gpu_memory()
    assert memory is not None
    assert memory.look() is not None


def test_on_a_cpu_no_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(FakeCard("GPU-0"))
    nvml.refusal = AssertionError("asked")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    runtime = Runtime("cpu")
    assert runtime.gpu is None
    assert runtime.open(graphs.scaled(), SCALER, label="scaler").memory().device_bytes is None
    with capture_logs() as lines:
        runtime.settle()
    assert [(line["graph"], line["provider"], line["device_bytes"]) for line in lines] == [("scaler", "cpu", None)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([Process(ME, 300)], [Process(ME, 750)], 450),
        ([Process(1, 300)], [Process(1, 300), Process(ME, 750)], 750),  # the first graph: CUDA's own is in it
        ([Process(ME, 0)], [Process(ME, 0)], None),
        ([Process(ME, 300)], [Process(ME, 750), Process(NOBODY, 9)], None),
    ],
)
def test_a_graph_takes_what_the_process_holds_more_after_it(
    before: list[Process], after: list[Process], expected: int | None
) -> None:
    class Opening(FakeNvml):
        def nvmlDeviceGetComputeRunningProcesses(self, card: FakeCard) -> list[Process]:  # noqa: N802
            del card
            return before if self.looks == 1 else after

    runtime = Runtime("cpu")
    runtime.gpu = GpuMemory(Opening(FakeCard("GPU-0")))
    assert runtime.open(graphs.scaled(), SCALER, label="scaler").memory().device_bytes == expected


def face_on(runtime: Runtime) -> object:
    return load_neural_face(folder(), runtime)


def voice_on(runtime: Runtime) -> object:
    with tempfile.TemporaryDirectory() as models:
        return load_neural_voice(fill(Path(models), voice()), runtime, voice=VOICE)


@pytest.mark.parametrize("load", [face_on, voice_on])
def test_a_neural_engine_tells_its_gpus_memory_once_it_is_warm(load: Callable[[Runtime], object]) -> None:
    runtime = Runtime("cpu")
    runtime.gpu = GpuMemory(FakeNvml(FakeCard("GPU-0", used=900, processes=[Process(ME, 700)])))
    engine = load(runtime)
    assert isinstance(engine, MemoryFigures)
    assert engine.memory() is None
    runtime.settle()
    assert engine.memory() == GpuFigures(held=700, grown=0, used=900, total=24_000)


@pytest.mark.parametrize("load", [face_on, voice_on])
def test_a_neural_engine_on_a_cpu_has_no_figures(load: Callable[[Runtime], object]) -> None:
    runtime = Runtime("cpu")
    engine = load(runtime)
    runtime.settle()
    assert isinstance(engine, MemoryFigures)
    assert engine.memory() is None
