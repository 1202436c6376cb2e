"""Tries a fresh graph at a length: what a file declares of its axes is not believed.

Exporters trace a network at one length. Where a constant of it stays inside, the graph still declares free axes, loads,
and fails (or answers at the traced length) at the first window of another one: then every chunk would be silence.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.models.runtime import Network
from workers.models.selftest import refuse_dead


def tried(
    net: Network, feeds: Mapping[str, NDArray[Any]], *, label: str, length: str, expected: tuple[int, ...]
) -> None:
    """Run `feeds` through `net`, a graph of one output.

    Raises `ModelRefused` that names `label`: the graph fails on this `length` ("96 frames"), answers in another shape
    than `expected`, or its numbers mean nothing.
    """
    try:
        (found,) = net.run(feeds)
    except ModelRefused as error:
        raise ModelRefused(
            f"{label} fails on {length}, where {expected} is expected: it is probably locked to the length it was "
            f"exported with. Export it with a free length. ({error})"
        ) from error
    if found.shape != expected:
        raise ModelRefused(
            f"{label} gives {found.shape} for {length}, {expected} is expected: its length is locked inside, or it is "
            "another network"
        )
    refuse_dead(found, name=f"{label}: output {net.outputs[0].name}")
