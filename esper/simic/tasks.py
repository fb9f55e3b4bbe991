"""The tasks a host is trained on: tensors in three splits, how to score a prediction, and how many classes.

A text is classified character by character: each predicts the next. The three splits have different uses and
never mix: weights learn from `train`; the policy, the gates and the control judge on `held_out`; `test` is
looked at to report, and decides nothing. A seed deals `train` and `held_out`; where examples are not drawn
anew, `test` is of the same examples for every seed, so that none was ever learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from esper.errors import MissingPackage
from esper.simic import cifar10, mnist1d, text
from esper.simic.errors import UnknownTask


@dataclass(frozen=True)
class Split:
    """x: float32 [N, channels, *spatial] and y: int64 [N]; of a text, both int64 [N, T]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Split:
        return Split(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class Task:
    """A task of classification: logits [N, classes] for each example, or [N, T, classes] for each token."""

    name: str
    doc: str
    classes: int
    train: Split
    held_out: Split
    test: Split

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self.train.x.shape[1:])

    @property
    def has_tokens(self) -> bool:
        """Whether examples are rows of tokens, not signals."""
        return not self.train.x.is_floating_point()

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross entropy in nats, one for each example: the mean over its tokens. Float [N]."""
        each = F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="none")
        return each if y.dim() == 1 else each.view_as(y).mean(1)

    def hits(self, logits: Tensor, y: Tensor) -> Tensor:
        """The share of right answers in each example, where the most probable class counts: float32 [N]."""
        right = (logits.argmax(dim=-1) == y).float()
        return right if y.dim() == 1 else right.mean(1)

    def to(self, device: torch.device) -> Task:
        train, held_out, test = (split.to(device) for split in (self.train, self.held_out, self.test))
        return replace(self, train=train, held_out=held_out, test=test)


def mnist1d_task(seed: int, test_examples: int = 2000) -> Task:
    """4,000 examples to learn from, as published; 2,000 held out; some to test on, all drawn apart."""
    sizes = (4000, 2000, test_examples)
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    drawn = [mnist1d.draw(size, np.random.default_rng(s)) for size, s in zip(sizes, streams, strict=True)]
    mean, deviation = drawn[0][0].mean(), drawn[0][0].std()
    splits = [_split((x - mean) / deviation, y) for x, y in drawn]
    return Task("mnist1d", "MNIST-1D: ten digits as signals of 40 samples", 10, *splits)


def _digits(seed: int) -> Task:
    """scikit-learn's 1,797 scanned digits of 8 by 8 pixels: a fifth to test on, equal for all seeds; of the
    others three quarters to learn from, dealt by seed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackage(package="scikit-learn", purpose="the digits task", extra="growth") from error
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels.reshape(-1, 8, 8) / 16.0 - 0.305) / 0.376
    others, test = np.split(np.random.default_rng(0).permutation(len(labels)), [int(0.8 * len(labels))])
    train, held_out = np.split(np.random.default_rng(seed).permutation(others), [int(0.75 * len(others))])
    splits = [_split(x[rows], labels[rows].astype(np.int64)) for rows in (train, held_out, test)]
    return Task("digits", "Scanned digits of 8 by 8 pixels", 10, *splits)


def _text(seed: int) -> Task:
    """The standard library's sources: 4,000 windows of 64 characters to learn from, 1,000 and 1,000 apart.

    The files that are tested on are equal for all seeds.
    """
    train, held_out, test = (
        Split(torch.from_numpy(codes[:, :-1]), torch.from_numpy(codes[:, 1:]))
        for codes in text.windows(seed, (4000, 1000, 1000), length=64)
    )
    doc = "The next character in sources of Python's standard library"
    return Task("text", doc, len(text.CHARACTERS) + 1, train, held_out, test)


def _cifar10(seed: int, data: Path | None) -> Task:
    """45,000 of the training images to learn from and 5,000 held out, dealt by seed; 10,000 to test on."""
    train, test = cifar10.read(data or Path(cifar10.FOLDER))
    order = np.random.default_rng(seed).permutation(len(train[1]))
    cut = len(order) - len(order) // 10
    parts = (
        (train[0][order[:cut]], train[1][order[:cut]]),
        (train[0][order[cut:]], train[1][order[cut:]]),
        test,
    )
    splits = [Split(torch.from_numpy(x), torch.from_numpy(y)) for x, y in parts]
    return Task("cifar10", "CIFAR-10: photographs of 32 by 32 pixels in ten classes", 10, *splits)


def _split(x: NDArray[np.float64], y: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(x.astype(np.float32)).unsqueeze(1), torch.from_numpy(y))


TASKS: dict[str, Callable[[int], Task]] = {"mnist1d": mnist1d_task, "digits": _digits, "text": _text}
"""The tasks that need no file, drawn or dealt by a seed."""
TASKS_FROM_FILES: Mapping[str, Callable[[int, Path | None], Task]] = MappingProxyType({"cifar10": _cifar10})
"""Those that read a folder, the second argument; None stands for the usual one."""
BATCH_SIZES = {"mnist1d": 100, "digits": 32, "text": 64, "cifar10": 128}
"""Examples in a step. Where examples are few, chosen so that an epoch has 30 to 60 steps: gates count steps,
policies epochs."""
TASK_NAMES = (*TASKS, *TASKS_FROM_FILES)


def task_named(name: str, seed: int, data: Path | None = None) -> Task:
    """The task, drawn or dealt by `seed`; `data`: the folder of its files, where it reads any.

    Raises `UnknownTask`, `MissingPackage`, `DataMissing`, `DataUnreadable`.
    """
    _require(name)
    if name in TASKS_FROM_FILES:
        return TASKS_FROM_FILES[name](seed, data)
    return TASKS[name](seed)


def batch_size_of(name: str) -> int:
    """The task's usual number of examples in a step. Raises `UnknownTask`."""
    _require(name)
    return BATCH_SIZES[name]


def _require(name: str) -> None:
    if name not in TASK_NAMES:
        raise UnknownTask(name=name, choices=", ".join(TASK_NAMES))
