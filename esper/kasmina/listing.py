"""The slots of a host as a table for people: `esper.print_slots`."""

from __future__ import annotations

import sys

from torch import nn

from esper.kasmina.lifecycle import fossils
from esper.kasmina.lifecycle.bank import MorphogeneticModel, slots
from esper.leyline.stages import SeedStage

HEADER = ("slot", "stage", "alpha", "blueprint", "parameters", "tensor", "status")
TO_THE_RIGHT = frozenset({"alpha", "parameters"})


def print_slots(model: nn.Module) -> None:
    """Prints a line for each slot of `model`, and the numbers of parameters of host and seeds.

    A line gives the slot's stage, alpha, blueprint and parameters, the tensor at it as the example left it,
    and its status: `ok`; `irregular`, with what is; or since when its module has never run in training.
    Raises NotAttached.
    """
    bank = slots(model)
    table = [HEADER, *_rows(bank)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for row in table:
        cells = [
            cell.rjust(width) if title in TO_THE_RIGHT else cell.ljust(width)
            for title, cell, width in zip(HEADER, row, widths, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.write(f"{_totals(bank)}\n")


def _rows(bank: MorphogeneticModel) -> list[tuple[str, ...]]:
    return [
        (
            slot.name,
            slot.stage.name,
            f"{slot.alpha:.2f}",
            slot.blueprint_id or "-",
            f"{slot.params:,}",
            str(slot.probe),
            slot.status,
        )
        for slot in bank.values()
    ]


def _totals(bank: MorphogeneticModel) -> str:
    """How many parameters the host has of its own, and how many its seeds have, in it and beside it."""
    fossilized = sum(slot.params for slot in bank.in_stages({SeedStage.FOSSILIZED}))
    others = sum(slot.params for slot in bank.values()) - fossilized
    host = fossils.own_parameters(bank.model)
    total = sum(p.numel() for p in host)
    learning = sum(p.numel() for p in host if p.requires_grad)
    frozen = "" if learning == total else f" ({total - learning:,} frozen)"
    return f"host: {total:,} parameters{frozen}; seeds: {fossilized:,} fossilized, {others:,} not yet"
