"""Averages of weights: what they are, and that a look at them leaves no trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from esper.kasmina.lifecycle.averaging import WINDOW, WeightAverage


def host() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=3 * WINDOW))
def test_first_steps_are_averaged_evenly_and_later_ones_by_their_share(values: list[float]) -> None:
    module = nn.Linear(1, 1, bias=False).double()
    average = WeightAverage([module])
    expected = 0.0
    for step, value in enumerate(values, start=1):
        nn.init.constant_(module.weight, value)
        average.update(step)
        expected += (value - expected) / min(step, WINDOW)
    assert average.values["0.weight"].item() == pytest.approx(expected, abs=1e-9)
    if len(values) <= WINDOW:
        assert expected == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_a_look_at_the_averages_leaves_no_trace_even_where_it_fails() -> None:
    module, seed = host(), nn.Conv1d(2, 2, 1, bias=False)
    average = WeightAverage([module, seed])
    for step in (1, 2, 3):
        module(torch.randn(5, 3, dtype=torch.float64))
        nn.init.normal_(seed.weight)
        average.update(step)
    before = copies(module, seed)
    with pytest.raises(ZeroDivisionError), average.in_place():
        assert all(
            torch.equal(held, value.to(held.dtype))
            for held, value in zip(floats(module, seed), average.values.values(), strict=True)
        )
        module(torch.randn(5, 3, dtype=torch.float64))
        raise ZeroDivisionError
    counts = "1.num_batches_tracked"
    after = copies(module, seed)
    assert after.pop(counts) == before.pop(counts) + 1  # it counts what it saw: `undisturbed` takes that back
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_half_precision_is_averaged_in_single() -> None:
    module = nn.Linear(1, 1, bias=False).bfloat16()
    average = WeightAverage([module])
    nn.init.constant_(module.weight, 1.0)
    average.update(1)
    nn.init.constant_(module.weight, 1.0078125)
    average.update(WINDOW)
    assert average.values["0.weight"].item() == pytest.approx(1.0 + 0.0078125 / WINDOW)


def test_a_tensor_that_two_modules_hold_is_averaged_once() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    assert len(WeightAverage([first, second]).values) == 1


def test_a_buffer_that_was_put_in_anothers_place_is_the_one_averaged() -> None:
    module = nn.BatchNorm1d(2)
    average = WeightAverage([module])
    module.running_mean = torch.full((2,), 4.0)
    average.update(1)
    with average.in_place():
        assert module.running_mean.tolist() == [4.0, 4.0]


def test_infinities_of_a_mask_stay_what_they_are() -> None:
    module = nn.Module()
    module.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    average = WeightAverage([module])
    for step in (1, 2, WINDOW):
        average.update(step)
    assert torch.equal(average.values["0.mask"], module.get_buffer("mask"))


def test_a_buffer_that_grows_is_averaged_anew() -> None:
    module = nn.BatchNorm1d(2)
    average = WeightAverage([module])
    average.update(1)
    module.running_mean = torch.full((3,), 4.0)
    with average.in_place():  # before it was seen, it is what it is
        assert module.running_mean.tolist() == [4.0, 4.0, 4.0]
    average.update(2)
    module.running_mean = torch.full((3,), 8.0)
    average.update(4)
    assert average.values["0.running_mean"].tolist() == [5.0, 5.0, 5.0]


def test_a_buffer_whose_elements_share_memory_is_left_alone() -> None:
    module = nn.Linear(1, 1)
    module.register_buffer("ones", torch.ones(1).expand(4))
    average = WeightAverage([module])
    average.update(1)
    with average.in_place():
        assert module.get_buffer("ones").tolist() == [1.0] * 4


def test_a_frozen_parameter_takes_no_room_and_one_that_thaws_is_averaged_from_then_on() -> None:
    module = nn.Linear(1, 1, bias=False).requires_grad_(False)
    average = WeightAverage([module])
    assert not average.values
    module.requires_grad_(True)
    nn.init.constant_(module.weight, 1.0)
    average.update(3)
    nn.init.constant_(module.weight, 5.0)
    average.update(4)
    assert average.values["0.weight"].item() == 2.0
    with average.in_place():
        assert module.weight.item() == 2.0
    assert module.weight.item() == 5.0


def test_complex_weights_are_averaged() -> None:
    module = nn.ParameterList([torch.zeros((), dtype=torch.complex64)])
    average = WeightAverage([module])
    module[0].data.fill_(4j)
    average.update(2)
    assert average.values["0.0"].item() == 2j


def floats(*modules: nn.Module) -> list[Tensor]:
    held = [
        tensor
        for module in modules
        for part in module.modules()
        for tensor in [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    ]
    return [tensor for tensor in held if tensor.is_floating_point()]


def copies(*modules: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for module in modules:
        found |= {name: value.clone() for name, value in module.state_dict().items()}
    return found
