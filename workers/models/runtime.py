"""The one place that opens ONNX graphs for the neural engines: provider, threads, buffers, checks.

A provider that was chosen is a provider that runs: what ONNX Runtime would quietly replace by the CPU is refused.
Graphs come as bytes, never as paths, so that what was hashed is what runs.
"""

import hashlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
import structlog
from numpy.typing import NDArray

from schemas.errors import Misconfigured, ModelRefused
from workers.models.bound import CUDA, HOST, NOT_CAPTURED, Bound, run_options
from workers.models.contract import GraphContract, Tensor
from workers.models.gpu_memory import open_gpu_memory
from workers.models.graph_bytes import inspect
from workers.models.protobuf import delimited, number
from workers.models.providers import CPU, EXECUTION, Profile, engine_folder, requested, shortfall, taken

_log = structlog.get_logger(__name__)
_DTYPES = {"float": "float32", "double": "float64"}  # ONNX Runtime's names that are not NumPy's


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What one opened graph takes."""

    graph_bytes: int
    """Length of the file."""
    resident_bytes: int | None
    """How much this process grew while it was opened; None where the system does not tell (not Linux)."""
    device_bytes: int | None
    """How much more of its GPU this process held after it; the first graph's includes the driver's own hundreds of MB.

    None on a CPU, and where the driver does not tell. What runs take is not in it.
    """


class Network:
    """One opened graph, on the provider of its runtime. One thread drives it."""

    def __init__(self, session: Any, *, device: str, use: MemoryUse) -> None:
        """Wrap an open session; `Runtime.open` makes networks."""
        self._session, self._device, self._use = session, device, use
        self._graphs, self._uncaptured = itertools.count(1), run_options(NOT_CAPTURED)
        self.inputs: tuple[Tensor, ...] = tuple(map(_tensor, session.get_inputs()))
        """As found in the graph, in its order; None for a free axis."""
        self.outputs: tuple[Tensor, ...] = tuple(map(_tensor, session.get_outputs()))
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs, freshly allocated, in the graph's order. Raises `ModelRefused` when the graph fails."""
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, dict(feeds), self._uncaptured)
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise ModelRefused(f"the graph does not run on {_shapes(feeds)}: {_first_line(error)}") from error
        return outputs

    def bind(self, shapes: Mapping[str, tuple[int, ...]]) -> Bound:
        """Return the graph with buffers for inputs of these shapes (every input by name), already run once.

        Raises `ModelRefused` when the graph does not take them.
        """
        try:
            return Bound(self._session, shapes, self.inputs, device=self._device, graph=next(self._graphs))
        except ModelRefused:
            raise
        except Exception as error:  # as in run()
            raise ModelRefused(f"the graph does not run on {dict(shapes)}: {_first_line(error)}") from error

    def memory(self) -> MemoryUse:
        """Return what the graph takes."""
        return self._use


class Runtime:
    """Opens graphs on one provider."""

    def __init__(
        self, provider: str = "auto", *, threads: int = 1, cache_dir: Path | None = None, cuda_graphs: bool = False
    ) -> None:
        """Choose `tensorrt`, `cuda`, `coreml` or `cpu`; `auto` takes the first of them that runs a graph here.

        `threads`: of the CPU provider. `cache_dir`: where TensorRT keeps its engines; None builds them at every start.
        `cuda_graphs`: record what runs on bound buffers and replay it, which only `cuda` does. Raises
        `Misconfigured` when the provider asked for does not run here.
        """
        self._threads, self._cache_dir, self._cuda_graphs = threads, cache_dir, cuda_graphs
        self.provider = _first_that_runs() if provider == "auto" else provider
        if provider != "auto":
            problem = problem_with(provider)
            if problem:
                raise Misconfigured(f"MIRAGE_PROVIDER={provider} does not run here: {problem}")
        if cuda_graphs and self.provider != "cuda":
            _log.warning("graphs_are_not_recorded", provider=self.provider, reason="only CUDA's own provider does so")
        self.gpu = open_gpu_memory() if self.on_cuda else None
        """Memory of the GPU; None where there is none, or its driver does not tell."""
        self._uses: dict[str, MemoryUse] = {}

    @property
    def accelerated(self) -> bool:
        """Whether graphs run on more than the CPU."""
        return self.provider != CPU

    @property
    def on_cuda(self) -> bool:
        """Whether graphs run on an NVIDIA GPU, whose memory CUDA's buffers are in: TensorRT shares them."""
        return self.provider in ("tensorrt", "cuda")

    def open(self, graph: bytes, contract: GraphContract, *, label: str, profile: Profile | None = None) -> Network:
        """Open ONNX bytes on this runtime's provider and check them against `contract`.

        `profile`: the shapes to come, where they differ, for TensorRT to build one engine for all. It wants them for
        every part of the graph that it takes; where it takes less than the whole, it builds as they come instead.
        Raises `ModelRefused` naming `label` for a graph that is not ONNX, keeps weights elsewhere, does not load or
        does not match, and `Misconfigured` when the provider did not take it or its engines cannot be kept.
        """
        facts = inspect(graph, label=label)
        digest = hashlib.sha256(graph).hexdigest()
        if self.provider == "tensorrt" and self._cache_dir is not None:
            folder = engine_folder(self._cache_dir, graph_sha256=digest, ort_version=ort.__version__)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Misconfigured(
                    f"TensorRT's engines cannot be kept in {folder}: {error.strerror}; a folder that can be written is "
                    "needed"
                ) from error
        providers = requested(
            self.provider,
            graph_sha256=digest,
            ort_version=ort.__version__,
            cache_dir=self._cache_dir,
            half=facts.half,
            captured=self._cuda_graphs,
            profile=profile,
        )
        before, held_before = resident_bytes(), self._held_bytes()
        try:
            session = _session(graph, providers, self._threads)
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            if profile is not None and self.provider == "tensorrt":
                _log.warning("engines_are_built_as_shapes_come", graph=label, reason=_first_line(error))
                return self.open(graph, contract, label=label)
            raise ModelRefused(f"{label} does not load on {self.provider}: {_first_line(error)}") from error
        active = session.get_providers()
        if EXECUTION[self.provider] not in active:
            raise Misconfigured(f"{label}: {self.provider} asked for, ONNX Runtime took {', '.join(active)}")
        if self.provider != CPU:
            self._refuse_idle(session, label)
        after, held_after = resident_bytes(), self._held_bytes()
        use = MemoryUse(
            graph_bytes=len(graph),
            resident_bytes=_grown(before, after),
            device_bytes=_grown(held_before, held_after),
        )
        network = Network(session, device=CUDA if self.on_cuda else HOST, use=use)
        contract.check(network.inputs, network.outputs, label=label)
        self._uses[label] = use
        return network

    def _refuse_idle(self, session: Any, label: str) -> None:
        """Raise `Misconfigured` where the provider is there and left the work to the CPU; log what else it left."""
        assigned = [
            (part.ep_name, node.op_type)
            for part in session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]
        problem = shortfall(self.provider, assigned)
        if problem:
            raise Misconfigured(f"{label}: {problem}")
        count, left = taken(assigned)
        if left:
            _log.info("graph is shared with the CPU", graph=label, provider=self.provider, taken=count, left=left)

    def settle(self) -> None:
        """Log what the graphs take that were opened, and follow the GPU's memory from here on.

        What is held of it now is what they need: call it when the engine is warm.
        """
        for label, use in self._uses.items():
            _log.info("graph opened", graph=label, provider=self.provider, **asdict(use))
        if self.gpu is not None:
            self.gpu.watch()

    def _held_bytes(self) -> int | None:
        return None if self.gpu is None else self.gpu.held()


def problem_with(provider: str) -> str:
    """Return why `provider` does not run here, or "" when it does: a one-node graph is run on it.

    Being in ONNX Runtime's list means only that this build knows the provider; the driver may be missing.
    """
    if provider not in EXECUTION:
        return f"there is no such provider; accepted are auto, {', '.join(EXECUTION)}"
    built = ort.get_available_providers()
    if EXECUTION[provider] not in built:
        ours = ", ".join(name for name, theirs in EXECUTION.items() if theirs in built)
        return f"this onnxruntime has {ours} only; CUDA and TensorRT come with onnxruntime-gpu"
    try:
        session = _session(_IDENTITY, requested(provider, graph_sha256="", ort_version="", cache_dir=None), 1)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base but Exception
        return _first_line(error)
    active = session.get_providers()
    return "" if EXECUTION[provider] in active else f"ONNX Runtime took {', '.join(active)} instead"


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where `/proc` does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _first_that_runs() -> str:
    return next(name for name in EXECUTION if not problem_with(name))


def _session(graph: bytes, providers: list[tuple[str, dict[str, str]]], threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between runs starve the other workers of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    session._model_bytes = None  # noqa: SLF001 - kept only to be able to fall back; it would hold every weight twice
    return session


def _tensor(node: Any) -> Tensor:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(axis if isinstance(axis, int) else None for axis in node.shape)
    return Tensor(node.name, _DTYPES.get(kind, kind), shape)


def _shapes(feeds: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in feeds.items())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _identity() -> bytes:
    """Return a graph that copies a float32 of one element: the smallest thing that a provider can run."""
    axes = delimited(2, delimited(1, number(1, 1)))
    tensor = delimited(2, delimited(1, number(1, 1) + axes))  # TypeProto of float32 (1)
    node = delimited(1, b"x") + delimited(2, b"y") + delimited(4, b"Identity")
    graph = delimited(1, node) + delimited(2, b"probe")
    graph += delimited(11, delimited(1, b"x") + tensor) + delimited(12, delimited(1, b"y") + tensor)
    return number(1, 8) + delimited(7, graph) + delimited(8, number(2, 13))


_IDENTITY = _identity()
