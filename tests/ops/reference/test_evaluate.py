"""What `evaluate` is given: names that the graph has, tensors that their dtype can hold."""

from __future__ import annotations

import pytest
import torch

import esper
from esper.errors import WrongArgument
from esper.ops.reference.evaluate import TensorUnfit, TensorUnknown

IR = esper.BlueprintIR.from_text(
    """blueprint b {
  %input = input() : f32[2]
  %index = input() : i64[2]
  %weight = param() {init="ones", fan_in=1, gain=1.0} : f32[2]
  %y = mul(%input, %weight)  : f32[2]
  output y = %y
}"""
)
INPUTS = {"input": torch.ones(2), "index": torch.ones(2, dtype=torch.int64)}
WEIGHTS = {"weight": torch.ones(2)}


def test_a_name_that_the_graph_has_not_is_told_with_the_nearest() -> None:
    with pytest.raises(TensorUnknown) as caught:
        esper.evaluate(IR, {**INPUTS, "inputt": torch.ones(2)}, WEIGHTS)
    assert str(caught.value) == "`inputs` holds `inputt`, and the graph has no such input"
    assert caught.value.help_text == "did you mean `input`?"
    with pytest.raises(TensorUnknown, match="no such parameter or buffer"):
        esper.evaluate(IR, INPUTS, {**WEIGHTS, "wieght": torch.ones(2)})


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("index", torch.tensor([1.5, 2.0])),
        ("input", torch.ones(2, dtype=torch.complex64)),
    ],
)
def test_a_tensor_that_would_lose_something_is_refused(name: str, tensor: torch.Tensor) -> None:
    with pytest.raises(TensorUnfit, match=f"`{name}` is given as {tensor.dtype}"):
        esper.evaluate(IR, {**INPUTS, name: tensor}, WEIGHTS)


def test_integers_stand_for_floats() -> None:
    found = esper.evaluate(IR, {**INPUTS, "input": torch.tensor([1, 2])}, WEIGHTS)
    assert torch.equal(found["y"], torch.tensor([1.0, 2.0]))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(WrongArgument, match="of type list, expected a tensor"):
        esper.evaluate(IR, {**INPUTS, "input": [1.0, 2.0]}, WEIGHTS)
    with pytest.raises(WrongArgument, match="`ir` is of type str"):
        esper.evaluate("b", INPUTS, WEIGHTS)
    with pytest.raises(WrongArgument, match="`inputs` is of type list"):
        esper.evaluate(IR, [torch.ones(2)], WEIGHTS)
