"""A candidate's accuracy: equal for equal arguments, of held-out data alone, and of what was asked."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import esper
from esper.kasmina.errors import SeedDoesNotFit, UnknownSlot
from esper.simic.candidates import SlotTask, Trained
from esper.simic.tasks import Split, Task

STEPS = 12
WINDOW = """blueprint window(channels: dim = 4, kernel: int = 3 in {1, 3, 5}) {
    input x: f32[N, channels, ...S]
    output x |> conv(channels, kernel=kernel) |> batch_norm() |> relu()
}
"""


@pytest.fixture(scope="module")
def place() -> SlotTask:
    return SlotTask("mnist1d", "cnn", "blocks.0")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candidates") / "window.esp"
    path.write_text(WINDOW)
    return path


def test_equal_arguments_give_equal_accuracy_and_other_seeds_another(place: SlotTask, window: Path) -> None:
    first = place.accuracy(window, STEPS, seed=0, values={"kernel": 5})
    torch.manual_seed(99)
    again = pickle.loads(pickle.dumps(place)).accuracy(window, STEPS, seed=0, values={"kernel": 5})
    assert first == again != place.accuracy(window, STEPS, seed=1, values={"kernel": 5})
    assert 0.1 < first.accuracy < 1.0


def test_a_file_with_values_and_its_graph_are_one_candidate(place: SlotTask, window: Path) -> None:
    params, sizes = place.fitted(window, {"kernel": 1})
    assert params == {"channels": 8} and sizes == {"N": 100, "S": (20,)}
    graph = esper.lower(window, sizes=sizes, kernel=1, **params)
    assert place.accuracy(graph, STEPS, seed=3) == place.accuracy(window, STEPS, seed=3, values={"kernel": 1})


def test_the_callers_random_numbers_are_left_alone(place: SlotTask) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    place.accuracy("conv_enhance", 2, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_test_data_decides_nothing_and_held_out_data_the_score_alone(place: SlotTask) -> None:
    splits = place.splits
    found = place.accuracy("conv_enhance", STEPS, seed=0)

    def on(data: Task) -> Trained:
        other = SlotTask("mnist1d", "cnn", "blocks.0")
        other.__dict__["splits"] = data
        return other.accuracy("conv_enhance", STEPS, 0)

    assert on(replace(splits, test=Split(-splits.test.x, splits.test.y))) == found
    half = Split(splits.held_out.x[:1000], splits.held_out.y[:1000])
    rest = Split(splits.held_out.x[1000:], splits.held_out.y[1000:])
    parts = [on(replace(splits, held_out=part)).accuracy for part in (half, rest)]
    assert sum(parts) / 2 == pytest.approx(found.accuracy, abs=1e-6)


def test_more_steps_and_more_convolutions_cost_more_operations(place: SlotTask, window: Path) -> None:
    narrow, wide = (place.accuracy(window, 4, 0, {"kernel": kernel}).flops for kernel in (1, 5))
    assert narrow < wide < place.accuracy(window, 8, 0, {"kernel": 5}).flops


def test_a_candidate_that_does_not_fit_and_a_slot_that_is_not_there_are_named(
    place: SlotTask, window: Path
) -> None:
    with pytest.raises(SeedDoesNotFit):
        place.accuracy(esper.lower(window, channels=4), STEPS, 0)
    with pytest.raises(UnknownSlot):
        _ = SlotTask("mnist1d", "cnn", "blocks.7").probe


def test_the_host_alone_is_what_a_candidate_that_does_nothing_comes_to(
    place: SlotTask, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing.esp"
    nothing.write_text("blueprint nothing() { input x: f32[N, ...S] output x }")
    alone, with_nothing = place.accuracy(None, STEPS, 0), place.accuracy(nothing, STEPS, 0)
    assert (alone.accuracy, alone.loss) == (with_nothing.accuracy, with_nothing.loss)


def test_a_network_is_made_anew_and_the_callers_random_numbers_are_left_alone(place: SlotTask) -> None:
    torch.manual_seed(5)
    first = place.network("conv_enhance", 1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    again = place.network("conv_enhance", 1)
    assert first.training and all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_gradients_are_of_every_weight_before_the_first_step_and_equal_for_equal_seeds(
    place: SlotTask,
) -> None:
    graph = esper.lower("conv_enhance", sizes={"N": 100, "S": (20,)}, channels=8)
    first, again = (place.gradients(graph, 3, batches=2) for _ in range(2))
    shapes = [p.shape for p in place.network(graph, 3).parameters() if p.dim() > 1]
    assert [gradient.shape for gradient in first[0]] == shapes and len(first) == 2
    assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    assert all(gradient.dtype == torch.float64 and gradient.isfinite().all() for gradient in first[0])
