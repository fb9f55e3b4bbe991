"""Data parallelism: two processes that share a batch learn what one process learns from all of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tests.process_group import PROCESSES, run_together
from tests.urza.run.test_citizen import Host, map_of, mlp

ROWS = 4


def host(tier: str) -> Host:
    torch.manual_seed(0)
    return Host(mlp(tier))  # type: ignore[arg-type]


def learn(model: nn.Module, x: torch.Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def work(rank: int, folder: Path) -> None:
    """One process: its rows of the batch; the first writes what was learned on each tier."""
    for tier in ("torch", "triton"):
        model = host(tier)
        shared = nn.parallel.DistributedDataParallel(model)
        learn(shared, map_of(PROCESSES * ROWS, 3, 3, 8)[rank::PROCESSES])
        if rank == 0:
            torch.save(model.state_dict(), folder / f"{tier}.pt")


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    run_together(work, tmp_path)
    expected = host("torch")
    learn(expected, map_of(PROCESSES * ROWS, 3, 3, 8))
    for tier in ("torch", "triton"):
        learned = torch.load(tmp_path / f"{tier}.pt", weights_only=True)
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(learned[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
