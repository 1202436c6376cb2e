"""What a graph must look like to be used: names, element types, ranks and fixed axes of its inputs and outputs.

A contract is checked when a graph is opened, so a wrong file is refused by name before any frame depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import ModelRefused

FREE = -1
"""In a contract's shape: this axis must be the caller's to choose. A graph locked to one length there is refused."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output, as a contract asks for it or as a graph has it.

    `name`: None in a contract means that the position decides. `dtype`: NumPy's name (`float32`, `int64`); a contract
    may list several, as in `float32|float16`. `shape`: None is any length in a contract, a free axis in a graph.
    """

    name: str | None
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return `target float32 (1, 3, 128, 128)`; `any` for an axis that is not fixed."""
        axes = ", ".join({None: "any", FREE: "free"}.get(axis, str(axis)) for axis in self.shape)
        return f"{self.name or '(any name)'} {self.dtype} ({axes})"


@dataclass(frozen=True, slots=True)
class GraphContract:
    """What a graph must take and give. `what` names the model in messages.

    Inputs are matched exactly: an input that nobody feeds fails at the first run. Outputs beyond the listed ones are
    refused too, unless `extra_outputs`. A tensor with a name is found by it, one without by its position.
    """

    what: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    extra_outputs: bool = False

    def problems(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
        """Return what differs between this contract and a graph with these tensors, one phrase each; [] if nothing."""
        return [
            *_side("input", self.inputs, inputs, extra=False),
            *_side("output", self.outputs, outputs, extra=self.extra_outputs),
        ]

    def check(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, label: str) -> None:
        """Raise `ModelRefused` that names `label`, every difference, and all that was expected and found."""
        problems = self.problems(inputs, outputs)
        if problems:
            raise ModelRefused(
                f"{label} is not {self.what}: {'; '.join(problems)}. "
                f"Expected inputs {_listed(self.inputs)}, outputs {_listed(self.outputs)}; "
                f"found inputs {_listed(inputs)}, outputs {_listed(outputs)}"
            )


def _listed(tensors: Sequence[Tensor]) -> str:
    return "[" + ", ".join(map(str, tensors)) + "]"


def _side(side: str, wanted: Sequence[Tensor], found: Sequence[Tensor], *, extra: bool) -> list[str]:
    if len(found) < len(wanted) or (len(found) > len(wanted) and not extra):
        return [f"{len(wanted)} {side}s expected, {len(found)} found"]
    by_name = {tensor.name: tensor for tensor in found}
    problems = []
    for position, want in enumerate(wanted):
        if want.name is not None and want.name not in by_name:
            names = ", ".join(str(tensor.name) for tensor in found)
            problems.append(f"no {side} called {want.name} (found {names})")
            continue
        have = found[position] if want.name is None else by_name[want.name]
        problems += [f"{side} {have.name}: {problem}" for problem in _differences(want, have)]
    return problems


def _differences(want: Tensor, have: Tensor) -> list[str]:
    problems = []
    if have.dtype not in want.dtype.split("|"):
        problems.append(f"{want.dtype.replace('|', ' or ')} expected, {have.dtype} found")
    if len(have.shape) != len(want.shape):
        problems.append(f"{len(want.shape)} axes expected, {len(have.shape)} found")
        return problems
    for axis, (asked, given) in enumerate(zip(want.shape, have.shape, strict=True)):
        if asked == FREE:
            if given is not None:
                problems.append(f"axis {axis} is locked to {given}, a free length is needed")
        elif asked is not None and given not in (asked, None):
            problems.append(f"axis {axis} of length {asked} expected, {given} found")
    return problems
