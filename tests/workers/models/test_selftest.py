"""A graph that gives black, NaN or something else on this device is refused before a viewer sees it."""

import numpy as np
import pytest

from schemas.errors import ModelRefused
from tests.workers.models import graphs
from workers.models.contract import GraphContract, Tensor
from workers.models.runtime import Network, Runtime
from workers.models.selftest import self_test

AXES = (1, 3, 4, 4)
CONTRACT = GraphContract("x", (Tensor("target", "float32", AXES),), (Tensor("output", "float32", AXES),))
FEEDS = {"target": np.random.default_rng(9).random(AXES, np.float32)}


def opened(graph: bytes) -> Network:
    return Runtime("cpu").open(graph, CONTRACT, label="x")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (float("nan"), r"NaN or infinite in 48 of 48 places"),
        (float("inf"), r"NaN or infinite in 48 of 48 places"),
        (0.0, r"0 everywhere \(black or silent\)"),
    ],
)
def test_a_dead_output_is_refused(number: float, said: str) -> None:
    with pytest.raises(ModelRefused, match=rf"x\.onnx: output output is {said}.*full-precision file"):
        self_test(opened(graphs.broken(number=number)), FEEDS, label="x.onnx")


def test_a_live_output_is_returned() -> None:
    (output,) = self_test(opened(graphs.scaled(AXES)), FEEDS, label="x.onnx")
    np.testing.assert_array_equal(output, 2 * FEEDS["target"])


def test_half_precision_is_held_against_a_reference() -> None:
    """Within the tolerance it passes; beyond, the figures are named."""
    reference = opened(graphs.scaled(AXES)).run(FEEDS)
    near, far = opened(graphs.scaled(AXES, by=2.02)), opened(graphs.scaled(AXES, by=2.4))
    self_test(near, FEEDS, label="x.onnx", reference=reference)
    with pytest.raises(ModelRefused, match=r"differs from the reference by 20\.0% of its peak, 5\.0% allowed"):
        self_test(far, FEEDS, label="x.onnx", reference=reference)
    with pytest.raises(ModelRefused, match=r"\(1, 3, 4, 4\), \(1, 3\) expected"):
        self_test(near, FEEDS, label="x.onnx", reference=[np.zeros((1, 3))])
