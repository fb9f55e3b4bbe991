"""Data parallelism: two processes that share a batch learn what one process learns from all of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import FileStore
from torch.multiprocessing.spawn import spawn

from tests.urza.run.test_citizen import Host, map_of, mlp

PROCESSES = 2
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


def work(rank: int, folder: str) -> None:
    """One process: its rows of the batch; the first writes what was learned on each tier."""
    store = FileStore(f"{folder}/store", PROCESSES)
    timeout = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES, timeout=timeout)
    try:
        for tier in ("torch", "triton"):
            model = host(tier)
            shared = nn.parallel.DistributedDataParallel(model)
            learn(shared, map_of(PROCESSES * ROWS, 3, 3, 8)[rank::PROCESSES])
            if rank == 0:
                torch.save(model.state_dict(), f"{folder}/{tier}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    spawn(work, (str(tmp_path),), PROCESSES)
    expected = host("torch")
    learn(expected, map_of(PROCESSES * ROWS, 3, 3, 8))
    for tier in ("torch", "triton"):
        learned = torch.load(tmp_path / f"{tier}.pt", weights_only=True)
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(learned[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
