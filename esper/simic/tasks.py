"""The tasks a host is trained on: tensors in three splits, how to score a prediction, and how many classes.

The three splits have different uses and never mix: weights learn from `train`; the policy, the gates
and the control judge on `held_out`; `test` is looked at to report, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from esper.errors import MissingPackage
from esper.simic import mnist1d
from esper.simic.errors import UnknownTask


@dataclass(frozen=True)
class Split:
    """x: float32 [N, channels, *spatial]; y: int64 [N]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Split:
        return Split(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class Task:
    """A classification task. `losses` and `hits` take logits [N, classes] and y [N], and return [N]."""

    name: str
    doc: str
    classes: int
    train: Split
    held_out: Split
    test: Split

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross entropy in nats, one for each example."""
        return F.cross_entropy(logits, y, reduction="none")

    def hits(self, logits: Tensor, y: Tensor) -> Tensor:
        """Whether the most probable class is the right one, as bool."""
        return logits.argmax(dim=-1) == y

    def to(self, device: torch.device) -> Task:
        train, held_out, test = (split.to(device) for split in (self.train, self.held_out, self.test))
        return Task(self.name, self.doc, self.classes, train, held_out, test)


def _mnist1d(seed: int) -> Task:
    """4,000 examples to learn from, as published; 2,000 held out; 2,000 to test on, all drawn apart."""
    sizes = (4000, 2000, 2000)
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    drawn = [mnist1d.draw(size, np.random.default_rng(s)) for size, s in zip(sizes, streams, strict=True)]
    mean, deviation = drawn[0][0].mean(), drawn[0][0].std()
    splits = [_split((x - mean) / deviation, y) for x, y in drawn]
    return Task("mnist1d", "MNIST-1D: ten digits as signals of 40 samples", 10, *splits)


def _digits(seed: int) -> Task:
    """scikit-learn's 1,797 scanned digits of 8 by 8 pixels, dealt by seed: 60 %, 20 %, 20 %."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackage(package="scikit-learn", purpose="the digits task", extra="growth") from error
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (pixels[order].reshape(-1, 8, 8) / 16.0 - 0.305) / 0.376
    y = labels[order].astype(np.int64)
    first, second = int(0.6 * len(y)), int(0.8 * len(y))
    bounds = (slice(0, first), slice(first, second), slice(second, len(y)))
    return Task("digits", "Scanned digits of 8 by 8 pixels", 10, *(_split(x[b], y[b]) for b in bounds))


def _split(x: NDArray[np.float64], y: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(x.astype(np.float32)).unsqueeze(1), torch.from_numpy(y))


TASKS: dict[str, Callable[[int], Task]] = {"mnist1d": _mnist1d, "digits": _digits}
BATCH_SIZES = {"mnist1d": 100, "digits": 32}
"""Examples in a step, chosen so that an epoch has 30 to 40 steps: gates count steps, policies epochs."""


def task_named(name: str, seed: int) -> Task:
    """The task, drawn or dealt by `seed`. Raises `UnknownTask`, `MissingPackage`."""
    _require(name)
    return TASKS[name](seed)


def batch_size_of(name: str) -> int:
    """The task's usual number of examples in a step. Raises `UnknownTask`."""
    _require(name)
    return BATCH_SIZES[name]


def _require(name: str) -> None:
    if name not in TASKS:
        raise UnknownTask(name=name, choices=", ".join(TASKS))
