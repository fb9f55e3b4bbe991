"""The network that a run has grown, out of its newest checkpoint, and its export to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from esper.kasmina.checkpoints.checkpoint import restore_model
from esper.kasmina.exports.files import Exported, write_export
from esper.kasmina.lifecycle.bank import slots
from esper.leyline.stages import SeedStage
from esper.simic.checkpoints import newest_checkpoint
from esper.simic.config import TrainConfig, load_config
from esper.simic.errors import NothingToExport
from esper.simic.hosts import build_host
from esper.simic.run_directory import CONFIG
from esper.simic.tasks import task_named


def grown_model(run: Path, host: str | None = None) -> tuple[nn.Module, Any, TrainConfig]:
    """The network of the run in `run` as its newest checkpoint has it, a batch, and the configuration.

    host: names a host that is imported, which is never taken from the folder.
    Raises NothingToExport for a folder without a checkpoint, HostFromFile, CheckpointUnreadable.
    """
    if not (run / CONFIG).is_file():
        raise NothingToExport(path=run, reason=f"there is no {CONFIG}")
    path = newest_checkpoint(run)
    if path is None:
        raise NothingToExport(path=run, reason="it has no checkpoint")
    config = load_config(run / CONFIG, {} if host is None else {"host": host})
    task = task_named(config.task, config.seed, None if config.data is None else Path(config.data))
    model = build_host(config.host, task)
    restore_model(model, path)
    return model, task.held_out.x[: config.batch_size], config


def export_run(run: Path, folder: Path, host: str | None = None) -> Exported:
    """Writes the network that the run in `run` has grown into `folder`. Raises what `grown_model` raises,
    LiveSeeds while a seed's fate is open, and what `write_export` raises."""
    model, example, config = grown_model(run, host)
    kept = slots(model).in_stages({SeedStage.FOSSILIZED})
    grown = ", ".join(f"{slot.blueprint_id} at {slot.name}" for slot in kept) or "nothing"
    doc = f"`{config.host}` on {config.task} as {run.name} left it, grown by {grown}."
    return write_export(model, folder, example, doc)
