"""Seeds without their host in one safetensors file: `esper.save_seeds` and `esper.load_seeds`.

A tensor is called `slot/name`; the topology stands in the metadata as JSON, each seed as its graph, never
code. The host's weights are not in it: `esper.host_state_dict` gives those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

import esper
from esper.files import write_whole
from esper.kasmina.checkpoints.file import digest_of, sync_folder
from esper.kasmina.checkpoints.topology import describe, rebuild, seed_weights
from esper.kasmina.errors import SeedsUnreadable
from esper.kasmina.lifecycle.bank import slots

SCHEMA = "1"
SCHEMA_KEY = "esper_seeds"

Host = TypeVar("Host", bound=nn.Module)


def save_seeds(model: nn.Module, path: str | Path) -> None:
    """Writes every seed of `model` to `path`, whole or not at all, with the stage and alpha that it has.

    Raises FileUnwritable, which leaves what was there, NotAttached, and SeedWithoutGraph for a seed that was
    planted as a module.
    """
    bank = slots(model)
    text = json.dumps(describe(bank), allow_nan=False)
    tensors = {name: value.cpu().contiguous() for name, value in seed_weights(bank).items()}
    metadata = {
        SCHEMA_KEY: SCHEMA,
        "esper": esper.__version__,
        "torch": torch.__version__,
        "topology": text,
        "digest": digest_of(text, tensors),
    }
    write_whole(Path(path), save(tensors, metadata))
    sync_folder(Path(path).parent)


def load_seeds(model: Host, path: str | Path) -> Host:
    """Puts the seeds of `save_seeds` into `model`, and returns it.

    `model` is the same host, with the same slots or with none, which are attached then. Load before the
    optimizer is made, so that it holds the parameters of fossilized seeds.

    A seed has the stage and alpha that it had, and the model computes what it computed. What belongs to the
    run is not in the file: a seed in TRAINING goes on learning with a fresh optimizer; one in BLENDING,
    SHADOWING or PROBATIONARY has neither snapshot nor control, so culling it leaves the host as it is, and
    the last gate, which has nothing to measure its gain by, refuses it. `save_checkpoint` keeps all of that.

    Raises SeedsUnreadable, AnotherHost with the names and shapes that differ, SlotTaken, UnknownSlot,
    MalformedTopology, WeightsDiffer; `model` is then as it was.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise SeedsUnreadable(path=path, reason="there is no such file") from error
    except (OSError, SafetensorError) as error:
        raise SeedsUnreadable(path=path, reason=" ".join(str(error).split())) from error
    found, text = metadata.get(SCHEMA_KEY), metadata.get("topology", "")
    if found is None:
        raise SeedsUnreadable(path=path, reason="it is another safetensors file")
    if found != SCHEMA:
        raise SeedsUnreadable(path=path, reason=f"its schema is {found}, and this Esper reads {SCHEMA}")
    if metadata.get("digest") != digest_of(text, tensors):
        raise SeedsUnreadable(path=path, reason="its digest is not that of what it holds")
    rebuild(model, json.loads(text), tensors)
    return model
