"""What would relieve a bottleneck: changes that are tried, each with the figures of its own plan.

A change that alters what goes in or comes out (element types apart) fits no place that the graph fits, so it
is no relief. Of smaller parameters, those that the graph's own counts rank first are planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.lang import ParameterValue, Signature, SizeValue
from esper.passes import run_passes
from esper.tezzeret.analysis.analyze import Analysis, analyze
from esper.tezzeret.costs.figures import DEVICES, counted

PLANNED = 2
"""Smaller parameters that are planned, at most."""

CHECKPOINT = "torch.utils.checkpoint"
PRECISION = "precision"


@dataclass(frozen=True, slots=True)
class Relief:
    """A change, and what a training step takes with it: `seconds`, `saved` and `peak` as in `Analysis`.

    change: an option of the command, the pass `precision`, or `CHECKPOINT`: to save nothing for the backward
    pass and to run the forward pass twice.
    """

    change: str
    seconds: float
    saved: int
    peak: int

    def helps(self, found: Analysis) -> bool:
        return self.seconds < found.total or self.saved < found.saved or self.peak < found.peak


def reliefs(
    found: Analysis, sizes: Mapping[str, SizeValue], variants: Mapping[str, Callable[[], BlueprintIR]]
) -> tuple[Relief, ...]:
    """The changes that save time or memory, the fastest first.

    variants: other graphs for the same place, by the option that makes each. One that cannot be made, or has
    other inputs or outputs, is left out. Beside them it tries products in bfloat16 and recomputation.
    """
    tried = [_planned(PRECISION, run_passes(found.ir, PRECISION), found, sizes)]
    if found.saved:
        again = found.total + found.seconds("forward")
        tried.append(Relief(CHECKPOINT, again, 0, found.peak))
    made = dict(_made(found, variants))
    device = DEVICES[found.target]
    latency = {change: counted(ir, sizes, [device])[0].latency for change, ir in made.items()}
    first = sorted(made, key=latency.__getitem__)[:PLANNED]
    tried += [_planned(change, made[change], found, sizes) for change in first]
    return tuple(sorted((one for one in tried if one.helps(found)), key=lambda one: one.seconds))


def smaller_parameters(
    signature: Signature, given: Mapping[str, ParameterValue]
) -> Iterator[tuple[str, ParameterValue]]:
    """For each parameter whose value can be less, or another: its name and one such value.

    A number goes to the next lower of its domain, or to half of itself; an operator, a branch or a flag to
    each other that its domain has.
    """
    for parameter in signature.parameters:
        value = given.get(parameter.name, parameter.default)
        domain = parameter.domain if isinstance(parameter.domain, tuple) else None
        if isinstance(value, bool | str):
            yield from ((parameter.name, other) for other in domain or () if other != value)
        elif value is not None and domain is not None:
            lower = [one for one in domain if not isinstance(one, str) and one < value]
            if lower:
                yield parameter.name, max(lower)
        elif isinstance(value, int) and value > 1:
            yield parameter.name, value // 2


def _made(
    found: Analysis, variants: Mapping[str, Callable[[], BlueprintIR]]
) -> Iterator[tuple[str, BlueprintIR]]:
    """The variants that can be made and take the same place."""
    place = _place(found.ir)
    for change, make in variants.items():
        try:
            ir = make()
        except EsperError:  # the value suits the parameter, but not its fellows
            continue
        if _place(ir) == place and ir.hash != found.ir.hash:
            yield change, ir


def _place(ir: BlueprintIR) -> tuple[tuple[object, ...], ...]:
    """The shapes of inputs and outputs."""
    inputs = tuple(node.type.shape for node in ir.inputs)
    return inputs, tuple(ir.type(value).shape for _, value in ir.outputs)


def _planned(change: str, ir: BlueprintIR, found: Analysis, sizes: Mapping[str, SizeValue]) -> Relief:
    other = analyze(ir, sizes, found.target)
    return Relief(change, other.total, other.saved, other.peak)
