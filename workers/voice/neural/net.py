"""What the chain asks of an opened network: `workers.models.runtime.Network` has it, and so have the bench's stubs."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from workers.models.contract import Tensor


class Net(Protocol):
    """One opened graph."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The graph's inputs, in its order."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The graph's own notes."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs in the graph's order."""
        ...
