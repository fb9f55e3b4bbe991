"""A seed and a module of torch.nn that are to say the same: one set of weights, values, gradients.

The module lists its layers in the order in which the blueprint makes its weights, so that one set of
weights, in order, serves both; a layer too many or of another shape is found there, one misplaced in the
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from esper.ops.reference.evaluate import evaluate
from esper.passes.autodiff import GRADIENT
from esper.passes.manager import joint_graph
from esper.urza.run.seed import CompiledSeed


def statistics(module: nn.Module) -> list[Tensor]:
    """The running means and variances."""
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def give_same_weights(seed: CompiledSeed, oracle: nn.Module, width: float = 1.0) -> None:
    """Random values for the parameters and running statistics of both, in the order of the layers.

    width: of the interval in which the parameters lie.
    """
    generator = torch.Generator().manual_seed(2)
    mine = [*seed.parameters(), *statistics(seed)]
    theirs = [*oracle.parameters(), *statistics(oracle)]
    assert [value.shape for value in mine] == [value.shape for value in theirs]
    with torch.no_grad():
        for here, there in zip(mine, theirs, strict=True):
            values = torch.rand(here.shape, generator=generator, dtype=torch.float64) + 0.5
            if isinstance(here, nn.Parameter):
                values.sub_(1.0).mul_(width)
            here.copy_(values)
            there.copy_(values)


def random_inputs(shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """A float64 tensor of each shape, whose gradients are wanted."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    ]


def outputs(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    found = module(*inputs)
    return found if isinstance(found, tuple) else (found,)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def _given(expected: Sequence[Tensor]) -> list[Tensor]:
    """A gradient for each output."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(y.shape, generator=generator, dtype=torch.float64) for y in expected]


def require_agreement(seed: CompiledSeed, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Outputs, gradients of inputs and parameters, and running statistics agree after a run of both."""
    found, expected = outputs(seed, inputs), outputs(module, inputs)
    close(found, expected)
    given = _given(expected)
    wrt, oracles = [*inputs, *seed.parameters()], [*inputs, *module.parameters()]
    close(torch.autograd.grad(found, wrt, given), torch.autograd.grad(expected, oracles, given))
    close(statistics(seed), statistics(module))


def require_joint_agreement(seed: CompiledSeed, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """The gradients that the joint graph computes are those of `module`."""
    expected = outputs(module, inputs)
    given = _given(expected)
    tensors = {node.name: x for node, x in zip(seed.ir.inputs, inputs, strict=True)}
    gradients = {GRADIENT + output: g for (output, _), g in zip(seed.ir.outputs, given, strict=True)}
    joint, state = joint_graph(seed.ir), seed.state_dict()
    weights = {node.name: state[node.name] for node in (*joint.params, *joint.buffers)}
    with torch.no_grad():
        found = evaluate(joint, {**tensors, **gradients}, weights, dtype=torch.float64)
    names = [*tensors, *(key for key, _ in seed.named_parameters())]
    wanted = torch.autograd.grad(expected, [*inputs, *module.parameters()], given)
    close([found[GRADIENT + key] for key in names], list(wanted))
