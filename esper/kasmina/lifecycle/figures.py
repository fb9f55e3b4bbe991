"""The figures that the gates ask for, from what was measured; None stands for what was not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean, stdev

import torch
from torch import Tensor

from esper.kasmina.lifecycle.control import Comparison

Figures = dict[str, float | None]


def mean_ratio(ratios: Iterable[Tensor]) -> float | None:
    """The mean of the gradient ratios, float32 scalars: near 0, the seed starves."""
    measured = list(ratios)
    return torch.stack(measured).mean().item() if measured else None


def descent(promises: Iterable[Tensor]) -> tuple[float | None, float | None]:
    """Mean and standard error of the promised decrease in training loss, over the last passes."""
    measured = list(promises)
    if len(measured) < 2:
        return None, None
    values = torch.stack(measured).tolist()
    return fmean(values), stdev(values) / len(values) ** 0.5


def learning(ratio: float | None, mean: float | None, error: float | None) -> Figures:
    """What G2 asks of a seed that incubates."""
    return {
        "gradient_ratio": ratio,
        "descent_over_error": mean / error if mean is not None and error else None,
    }


def stability(before: float | None, present: float | None) -> Figures:
    """What G4 asks for: the relative rise of the loss, since `before` blending or over the control's."""
    measured = before is not None and present is not None and before > 0
    return {"loss_rise": present / before - 1.0 if measured else None}  # type: ignore[operator]


def controlled_gain(comparison: Comparison) -> Figures:
    """What G5 asks for: the seed's gain over its control."""
    return {
        "heldout_examples": float(comparison.examples),
        "gain": comparison.gain,
        "gain_over_error": comparison.gain_over_error,
        "gain_over_progress": comparison.gain_over_progress,
    }


def finite(figure: float | None) -> float | None:
    """A figure as an event holds it: what is not a number was not measured."""
    return figure if figure is not None and math.isfinite(figure) else None
