"""Contracts: every difference between what was expected and what was found is named."""

import pytest

from schemas.errors import ModelRefused
from workers.models.contract import FREE, GraphContract, Tensor

CONTRACT = GraphContract(
    "a swapper",
    (Tensor("target", "float32|float16", (1, 3, None, FREE)), Tensor(None, "int64", (1,))),
    (Tensor("output", "float32", (None, 3)),),
)
INPUTS = (Tensor("target", "float16", (1, 3, 128, None)), Tensor("length", "int64", (1,)))
OUTPUTS = (Tensor("output", "float32", (5, 3)),)


def test_what_fits_is_accepted() -> None:
    """Any of several dtypes, any length where none is fixed, a free axis where a fixed one is asked for."""
    CONTRACT.check(INPUTS, OUTPUTS, label="x")
    CONTRACT.check((Tensor("target", "float32", (None, None, None, None)), INPUTS[1]), OUTPUTS, label="x")


def test_a_named_tensor_may_stand_anywhere() -> None:
    contract = GraphContract("two", (Tensor("a", "float32", (1,)), Tensor("b", "float32", (2,))), OUTPUTS)
    swapped = (Tensor("b", "float32", (2,)), Tensor("a", "float32", (1,)))
    assert contract.problems(swapped, OUTPUTS) == []


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        (Tensor("picture", "float32", (1, 3, 1, None)), "no input called target (found picture, length)"),
        (Tensor("target", "int8", (1, 3, 1, None)), "input target: float32 or float16 expected, int8 found"),
        (Tensor("target", "float32", (1, 3, None)), "input target: 4 axes expected, 3 found"),
        (Tensor("target", "float32", (2, 3, 1, None)), "input target: axis 0 of length 1 expected, 2 found"),
        (Tensor("target", "float32", (1, 3, 1, 64)), "input target: axis 3 is locked to 64, a free length is needed"),
    ],
)
def test_each_difference_is_named(first: Tensor, problem: str) -> None:
    assert CONTRACT.problems((first, INPUTS[1]), OUTPUTS) == [problem]


def test_a_wrong_number_of_tensors_is_named() -> None:
    assert CONTRACT.problems(INPUTS[:1], OUTPUTS) == ["2 inputs expected, 1 found"]
    assert CONTRACT.problems(INPUTS, OUTPUTS * 2) == ["1 outputs expected, 2 found"]
    relaxed = GraphContract("more", CONTRACT.inputs, CONTRACT.outputs, extra_outputs=True)
    assert relaxed.problems(INPUTS, OUTPUTS * 2) == []
    assert relaxed.problems(INPUTS, ()) == ["1 outputs expected, 0 found"]


def test_the_refusal_says_everything() -> None:
    with pytest.raises(ModelRefused) as refusal:
        CONTRACT.check(INPUTS[:1], OUTPUTS, label="x.onnx")
    assert str(refusal.value) == (
        "x.onnx is not a swapper: 2 inputs expected, 1 found. Expected inputs [target float32|float16 "
        "(1, 3, any, free), (any name) int64 (1)], outputs [output float32 (any, 3)]; found inputs [target float16 "
        "(1, 3, 128, any)], outputs [output float32 (5, 3)]"
    )
