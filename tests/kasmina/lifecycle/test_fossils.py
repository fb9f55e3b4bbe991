"""Fossilized seeds stand in the host by names that never clash, whatever the slots are called."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from esper.kasmina.lifecycle.fossils import ROOT_NAME, register, unregister

PART = st.text("a_ut d", min_size=1, max_size=4)
SLOT = st.lists(PART, min_size=1, max_size=3).map(".".join)


def registered(*slots: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    for slot in slots:
        register(model, slot, nn.Linear(2, 2))
    return model


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.get_submodule(ROOT_NAME).named_children()]


def test_an_ordinary_slot_has_its_own_name_with_its_dots_written_out() -> None:
    slots = ("layer1.0.conv", "norm_1", "_private.act")
    assert names(registered(*slots)) == ["layer1__0__conv", "norm_1", "_private__act"]


@given(st.sets(SLOT, min_size=2, max_size=6))
def test_every_slot_has_a_place_of_its_own(slots: set[str]) -> None:
    model = registered(*slots)
    assert len(names(model)) == len(slots)
    first, *others = slots
    unregister(model, first)
    assert names(model) == names(registered(*others))


@pytest.mark.parametrize(
    "slots", [("a.b", "a__b"), ("a_.b", "a._b"), ("a__b", "__a_u_ub"), ("__a_ub", "a_b"), ("type", "forward")]
)
def test_slots_whose_names_could_clash_keep_their_seeds_apart(slots: tuple[str, str]) -> None:
    model = registered(*slots)
    assert len(names(model)) == 2
    again = registered(*slots)
    again.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
