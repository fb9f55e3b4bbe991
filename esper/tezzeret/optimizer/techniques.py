"""The four techniques: what each would do to a graph, as passes with their laws.

fusion          what a plan keeps apart and could run together: batch norms by running statistics go into the
                product before them, convolutions of single elements become products. All else that fuses,
                elementwise operators, norms, bias, activations and sums behind and between products, the plan
                fuses by itself.
parallel paths  branches of one map that begin with alike convolutions begin with one. Products of one matrix
                share a kernel in the plan already, and joining their weights would only move them.
bottlenecks     what the costliest step has to move or compute and need not: joins before products, padded
                copies, chains of factors in a dear order.
precision       products in bfloat16, as many as the error budget allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR
from esper.lang import size_values
from esper.passes import Law, Pass
from esper.passes.conv_to_matmul import ConvToMatmul
from esper.passes.fold_batch_norm import FoldBatchNorm
from esper.passes.fold_pad import FoldPad
from esper.passes.merge_convs import MergeConvs
from esper.passes.precision import Precision
from esper.passes.reassociate import Reassociate
from esper.passes.simplify import Simplify
from esper.passes.split_concat import SplitConcat
from esper.tezzeret.optimizer.figures import Plans
from esper.tezzeret.optimizer.rounding import narrowest


@dataclass(frozen=True, slots=True)
class Move:
    """A rewrite that a technique proposes. error: of the graph after it, measured, where digits are lost."""

    entry: Pass
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What a technique may look at: the graph, plans at the sizes in question, which laws rewrites may have,
    and the error that is allowed."""

    ir: BlueprintIR
    plans: Plans
    laws: frozenset[Law]
    budget: float


Propose = Callable[[Situation], Iterator[Move]]


@dataclass(frozen=True, slots=True)
class Technique:
    """`moves` proposes rewrites of a graph that has been expanded and cleaned; most change nothing."""

    name: str
    moves: Propose


def _each(*passes: Pass) -> Iterator[Move]:
    return (Move(entry) for entry in passes)


def _fusion(at: Situation) -> Iterator[Move]:
    yield from _each(FoldBatchNorm(), ConvToMatmul(), Simplify())


def _parallel_paths(at: Situation) -> Iterator[Move]:
    yield Move(MergeConvs())


def _bottlenecks(at: Situation) -> Iterator[Move]:
    sizes = size_values(at.ir, at.plans.sizes)
    chains = Reassociate(tuple(f"{name}={size}" for name, size in sizes.items()))
    yield from _each(chains, SplitConcat(), FoldPad())


def _precision(at: Situation) -> Iterator[Move]:
    if Precision.law in at.laws:
        found = narrowest(at.ir, at.budget, size_values(at.ir, at.plans.sizes))
        if found is not None:
            yield Move(*found)


TECHNIQUES = (
    Technique("fusion", _fusion),
    Technique("parallel paths", _parallel_paths),
    Technique("bottlenecks", _bottlenecks),
    Technique("precision", _precision),
)
