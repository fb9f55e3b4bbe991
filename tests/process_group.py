"""Several processes of one group, for tests of what they do together.

A module that DistributedDataParallel wraps must be gone before its group is: destroyed after it, it may wait
for ever. So the work is a function of its own, whose names are out of reach when the group ends.
"""

from __future__ import annotations

import datetime
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch._C._distributed_c10d import FileStore
from torch.multiprocessing.spawn import spawn

PROCESSES = 2
PATIENCE = datetime.timedelta(seconds=120)


def run_together(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Calls `work(rank, folder, *arguments)`, a function of a module, in each process."""
    spawn(_run, (work, folder, arguments), PROCESSES)


def _run(rank: int, work: Callable[..., None], folder: Path, arguments: tuple[Any, ...]) -> None:
    store = FileStore(str(folder / "store"), PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES, timeout=PATIENCE)
    try:
        work(rank, folder, *arguments)
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()
