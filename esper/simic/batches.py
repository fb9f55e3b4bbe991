"""The order in which a run sees its data, and where in it the run stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from esper.simic.tasks import Split


class ShuffledBatches:
    """Whole batches of a split in an order drawn anew for each epoch; what is left over waits for another.

    Iterating runs to the end of the epoch, from its beginning or, after `load_state_dict`, from its middle.
    The order comes from a generator of its own: a checkpoint holds its state as it was before the epoch.
    """

    def __init__(self, split: Split, size: int, seed: int) -> None:
        self.split = split
        self.size = size
        self._generator = torch.Generator().manual_seed(seed)
        self._before = self._generator.get_state()
        self._taken = 0
        self._order: Tensor | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.split) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that the epoch still has: x [size, ...] and y."""
        if self._order is None:
            self._before = self._generator.get_state()
            self._order = self._draw()
        while self._taken < len(self):
            start = self._taken * self.size
            self._taken += 1
            chosen = self._order[start : start + self.size]
            yield self.split.x[chosen], self.split.y[chosen]
        self._order, self._taken = None, 0

    def _draw(self) -> Tensor:
        return torch.randperm(len(self.split), generator=self._generator).to(self.split.y.device)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch at hand began and how many of its batches were taken; None between two epochs."""
        if self._order is None:
            return {"generator": self._generator.get_state(), "taken": None}
        return {"generator": self._before, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave for a split of the same length."""
        self._generator.set_state(state["generator"])
        self._before, self._order, self._taken = state["generator"], None, 0
        if state["taken"] is not None:
            self._order, self._taken = self._draw(), state["taken"]
