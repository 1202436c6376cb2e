"""A graph with its buffers, reused from run to run: nothing is allocated on the way of a frame."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.models.contract import Tensor

HOST, CUDA = "cpu", "cuda"
NOT_CAPTURED = -1
"""Number of the CUDA graph that is none: the run is neither recorded nor replayed."""


class Bound:
    """Fill `inputs[name]`, call `run`. One thread drives it; a session may have several, one a shape.

    On a GPU the graph reads and writes device buffers, and `run` copies between them and host memory. The outputs'
    shapes must depend on the inputs' shapes alone.
    """

    def __init__(
        self,
        session: Any,
        shapes: Mapping[str, tuple[int, ...]],
        tensors: tuple[Tensor, ...],
        *,
        device: str,
        graph: int,
    ) -> None:
        """Allocate buffers for inputs of `shapes`, and run once on zeros: that tells the outputs' shapes, and warms.

        `device`: `cpu` or `cuda`. `graph`: number under which a CUDA graph is captured, where the provider does so.
        """
        names = {str(tensor.name) for tensor in tensors}
        if set(shapes) != names:
            raise ModelRefused(f"buffers for {sorted(shapes)} asked for, the graph takes {sorted(names)}")
        self._session, self._device = session, device
        self.inputs: Mapping[str, NDArray[Any]] = MappingProxyType(
            {str(tensor.name): np.zeros(shapes[str(tensor.name)], tensor.dtype) for tensor in tensors}
        )
        self._binding = session.io_binding()
        self._fed = {name: ort.OrtValue.ortvalue_from_numpy(host, device, 0) for name, host in self.inputs.items()}
        for name, value in self._fed.items():
            self._binding.bind_ortvalue_input(name, value)
        self._options = run_options(graph)
        self._outputs = self._allocate(run_options(NOT_CAPTURED))
        self.shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(
            {name: tuple(value.shape()) for name, value in self._outputs.items()}
        )
        """Of the outputs, by name."""
        self.run()

    def _allocate(self, options: Any) -> dict[str, Any]:
        """Return output name → buffer on the device, bound."""
        names = [node.name for node in self._session.get_outputs()]
        for name in names:
            self._binding.bind_output(name, HOST)
        self._session.run_with_iobinding(self._binding, options)
        found = [value.numpy() for value in self._binding.get_outputs()]
        self._binding.clear_binding_outputs()
        hosts = {name: np.array(array) for name, array in zip(names, found, strict=True)}
        buffers = {name: ort.OrtValue.ortvalue_from_numpy(host, self._device, 0) for name, host in hosts.items()}
        for name, value in buffers.items():
            self._binding.bind_ortvalue_output(name, value)
        # On the CPU an OrtValue made from an array uses the array's own memory, so the arrays are what a run fills.
        self._views = MappingProxyType(hosts if self._device == HOST else {})
        return buffers

    def run(self) -> Mapping[str, NDArray[Any]]:
        """Return the outputs by name. They are valid until the next run, which overwrites them."""
        if self._device != HOST:
            for name, value in self._fed.items():
                value.update_inplace(self.inputs[name])
        self._session.run_with_iobinding(self._binding, self._options)
        if self._device == HOST:
            return self._views
        return {name: value.numpy() for name, value in self._outputs.items()}


def run_options(graph: int) -> Any:
    """Return the options of a run that is recorded and replayed as CUDA graph `graph`, where the session does so."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options
