"""Checkpoints: one file from which a run goes on as if it had never stopped.

A file holds the topology (graphs, not code), every weight, the states of all optimizers, snapshots and
controls, what growth has counted, random generators, and the state of whatever else it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esper.kasmina.checkpoints.file import keep_newest, read_checkpoint, write_checkpoint
from esper.kasmina.checkpoints.state import (
    check_host,
    generator_values,
    growth_values,
    restore_generators,
    restore_growth,
    restore_slots,
    restore_weights,
)
from esper.kasmina.errors import CannotCheckpoint, CheckpointContents
from esper.kasmina.training.growth import Growth


def save_checkpoint(path: str | Path, *, growth: Growth, keep: int | None = None, **objects: Any) -> None:
    """Writes a checkpoint to `path`, whole or not at all; call it between two steps.

    objects: anything with a `state_dict` (schedulers, a GradScaler, a resumable loader, an EMA), and
    torch.Generators, by names that `load_checkpoint` takes them by; None is left out. Waiting gradients are
    saved too, so call it after `zero_grad` to save their room.
    keep: how many files named like `path` but for the last number in the name, which counts steps or epochs,
    stay in its folder, `path` among them.

    Raises FileUnwritable, which leaves what was at `path` before, CannotCheckpoint, and SeedWithoutGraph for
    a seed that was planted as a module.
    """
    states = {name: _state(name, part) for name, part in objects.items() if part is not None}
    path = Path(path)
    write_checkpoint(
        path, {"growth": growth_values(growth), "objects": states, "generators": generator_values()}
    )
    if keep is not None:
        keep_newest(path, keep)


def load_checkpoint(path: str | Path, *, growth: Growth, **objects: Any) -> None:
    """Gives a run that was made as the saved one was all that `save_checkpoint` wrote, random generators too.

    Seeds that the model has, and the checkpoint has not, make room for the checkpoint's. Every object that
    was saved is given again by its name; None leaves one as it is.
    Raises CheckpointUnreadable, CheckpointTooNew, CheckpointContents, AnotherHost for another host or slots
    made otherwise, OptimizerDiffers for one of another kind or other parameters; the run is then as it was.
    """
    restore(Path(path), read_checkpoint(Path(path)), growth, objects)


def restore(path: Path, values: Mapping[str, Any], growth: Growth, objects: Mapping[str, Any]) -> None:
    """`load_checkpoint` for values that have been read from `path` already."""
    saved = values["objects"]
    if set(saved) - set(objects) or {n for n, part in objects.items() if part is not None} - set(saved):
        raise CheckpointContents(path=path, held=_listed(saved), given=f"{_listed(objects)} were")
    if values["growth"]["policy"] is not None and not hasattr(growth.policy, "load_state_dict"):
        given = f"a {type(growth.policy).__name__}, which takes none, was"
        raise CheckpointContents(path=path, held="the run's policy", given=given)
    kind, own = values["growth"].get("policy_kind"), type(growth.policy).__name__
    if values["growth"]["policy"] is not None and kind not in (None, own):
        raise CheckpointContents(path=path, held=f"a {kind}", given=f"a {own} was")
    restore_growth(growth, values["growth"])
    for name, part in objects.items():
        if isinstance(part, torch.Generator):
            part.set_state(saved[name])
        elif part is not None:
            part.load_state_dict(saved[name])
    restore_generators(values["generators"])


def restore_topology(model: nn.Module, path: str | Path) -> None:
    """Puts slots and seeds of a checkpoint into `model`, so that its state dict has the checkpoint's names.

    For loops that load weights before anything else; otherwise `load_checkpoint` does it.
    Raises CheckpointUnreadable, CheckpointTooNew, AnotherHost.
    """
    values = read_checkpoint(Path(path))["growth"]
    restore_slots(model, values)
    check_host(model, values)


def restore_model(model: nn.Module, path: str | Path) -> None:
    """Puts slots, seeds and all weights of a checkpoint into `model`, to use it; a run it does not become.

    Raises what `restore_topology` raises.
    """
    values = read_checkpoint(Path(path))["growth"]
    restore_slots(model, values)
    check_host(model, values)
    restore_weights(model, values)


def _state(name: str, part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if not hasattr(part, "state_dict"):
        raise CannotCheckpoint(name=name, found=f"a {type(part).__name__} without a state_dict")
    return part.state_dict()


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing else"
