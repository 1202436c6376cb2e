"""Runs a freshly opened graph once and looks at what comes out, before any viewer does.

Half-precision graphs are known to give black boxes or NaN on some devices. Such a file is refused with a message: the
full-precision one is a setting away, but it is never taken silently.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.models.runtime import Network

Arrays = Mapping[str, NDArray[Any]]


def self_test(
    network: Network,
    feeds: Arrays,
    *,
    label: str,
    reference: Sequence[NDArray[Any]] | None = None,
    tolerance: float = 0.05,
) -> list[NDArray[Any]]:
    """Run `feeds` through `network` and return the outputs, in the graph's order, when nothing is wrong with them.

    `reference`: what the same feeds gave elsewhere (the fp32 graph, a stored run), in the same order. `tolerance`:
    largest difference to it, as a share of its peak. Raises `ModelRefused` naming `label`, the output and the figures.
    """
    outputs = network.run(feeds)
    for position, (tensor, found) in enumerate(zip(network.outputs, outputs, strict=True)):
        name = f"{label}: output {tensor.name or position}"
        refuse_dead(found, name=name)
        if reference is not None:
            refuse_different(found, reference[position], name=name, tolerance=tolerance)
    return outputs


def refuse_dead(found: NDArray[Any], *, name: str) -> None:
    """Raise `ModelRefused` for NaN, infinities, or one value everywhere (a black picture, silence)."""
    if not np.issubdtype(found.dtype, np.floating):
        return
    bad = int(found.size - np.isfinite(found).sum())
    if bad:
        raise ModelRefused(f"{name} is NaN or infinite in {bad} of {found.size} places on this device; {_ADVICE}")
    if found.size > 1 and float(np.ptp(found)) == 0:
        raise ModelRefused(f"{name} is {float(found.flat[0]):g} everywhere (black or silent) on this device; {_ADVICE}")


def refuse_different(found: NDArray[Any], reference: NDArray[Any], *, name: str, tolerance: float) -> None:
    """Raise `ModelRefused` when `found` is further from `reference` than `tolerance` of the reference's peak."""
    if found.shape != reference.shape:
        raise ModelRefused(f"{name} is {found.shape}, {reference.shape} expected")
    peak = max(float(np.abs(reference).max(initial=0)), 1e-12)
    worst = float(np.abs(found.astype(np.float64) - reference).max(initial=0)) / peak
    if not worst <= tolerance:
        raise ModelRefused(
            f"{name} differs from the reference by {worst:.1%} of its peak, {tolerance:.1%} allowed; {_ADVICE}"
        )


_ADVICE = "use the full-precision file, or another MIRAGE_PROVIDER"
