"""Tasks: splits that do not mix, equal by seed; files that are what they are called."""

from pathlib import Path

import numpy as np
import pytest
import torch

from esper.simic import cifar10, text
from esper.simic.errors import DataMissing, DataUnreadable, UnknownTask
from esper.simic.tasks import TASKS, Task, mnist1d_task, task_named

IMAGES_A_FILE = 200


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CIFAR-10's six files, each with a few images of random pixels."""
    folder = tmp_path_factory.mktemp("cifar") / cifar10.FOLDER
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*cifar10.TRAIN, cifar10.TEST):
        rows = rng.integers(0, 256, (IMAGES_A_FILE, cifar10.RECORD), dtype=np.uint8)
        rows[:, 0] = np.arange(IMAGES_A_FILE) % cifar10.CLASSES
        rows.tofile(folder / name)
    return folder


@pytest.fixture(scope="module", params=[*TASKS, "cifar10"])
def task(request: pytest.FixtureRequest, photographs: Path) -> Task:
    return task_named(request.param, 3, photographs)


def test_splits_share_no_example(task: Task) -> None:
    splits = [task.train, task.held_out, task.test]
    examples = [{bytes(x.numpy().tobytes()) for x in split.x} for split in splits]
    assert not (examples[0] & examples[1] or examples[0] & examples[2] or examples[1] & examples[2])


def test_every_class_is_in_every_split(task: Task) -> None:
    if task.has_tokens:
        pytest.skip("rare characters are not in every split")
    for split in (task.train, task.held_out, task.test):
        assert torch.unique(split.y).tolist() == list(range(task.classes))


def test_training_split_is_standardised(task: Task) -> None:
    if task.has_tokens:
        pytest.skip("tokens have no scale")
    assert abs(task.train.x.mean().item()) < 0.02
    assert abs(task.train.x.std().item() - 1.0) < 0.02


def test_equal_seeds_give_equal_tensors(task: Task, photographs: Path) -> None:
    again = task_named(task.name, 3, photographs)
    assert torch.equal(task.train.x, again.train.x)
    assert torch.equal(task.test.y, again.test.y)
    assert not torch.equal(task.train.x, task_named(task.name, 4, photographs).train.x)


def test_no_seed_learns_from_what_another_is_tested_on(task: Task, photographs: Path) -> None:
    if task.name == "mnist1d":
        pytest.skip("drawn anew for each seed")
    other = task_named(task.name, 4, photographs)
    tested = {x.numpy().tobytes() for x in task.test.x}
    for split in (other.train, other.held_out):
        assert not tested & {x.numpy().tobytes() for x in split.x}


def test_losses_and_hits_are_one_an_example(task: Task) -> None:
    rows = (7, *task.train.y.shape[1:])
    logits = torch.zeros(*rows, task.classes)
    y = torch.zeros(rows, dtype=torch.int64)
    assert task.losses(logits, y).shape == (7,)
    assert task.hits(logits, y).all()


def test_unknown_task_names_the_choices() -> None:
    with pytest.raises(UnknownTask) as caught:
        task_named("imagenet", 0)
    assert "mnist1d" in caught.value.help_text


def test_an_examples_loss_is_the_mean_over_its_tokens() -> None:
    task = task_named("text", 0)
    logits = torch.randn(3, 5, task.classes, generator=torch.Generator().manual_seed(0))
    y = torch.arange(15).view(3, 5)
    by_hand = [-logits[i].log_softmax(-1)[range(5), y[i]].mean() for i in range(3)]
    torch.testing.assert_close(task.losses(logits, y), torch.stack(by_hand))


def test_each_character_predicts_the_next() -> None:
    task = task_named("text", 0)
    assert torch.equal(task.train.x[:, 1:], task.train.y[:, :-1])


def test_text_comes_back_from_its_codes() -> None:
    written = "def f(x):\n    return x  # déjà\t\n"
    read = text.decode(text.encode(written).tolist())
    assert read == written.replace("é", "\ufffd").replace("à", "\ufffd").replace("\t", "\ufffd")


def test_more_test_examples_change_neither_training_nor_held_out_ones() -> None:
    few, many = mnist1d_task(7), mnist1d_task(7, test_examples=5000)
    assert torch.equal(few.train.x, many.train.x) and torch.equal(few.held_out.x, many.held_out.x)
    assert len(many.test) == 5000


def test_photographs_are_dealt_nine_to_one(photographs: Path) -> None:
    task = task_named("cifar10", 0, photographs)
    assert (len(task.train), len(task.held_out), len(task.test)) == (900, 100, IMAGES_A_FILE)
    assert task.example_shape == (3, 32, 32)


def test_missing_photographs_are_an_error_with_the_command_that_gets_them(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        task_named("cifar10", 0, tmp_path)
    assert "curl" in caught.value.help_text and "--data" in caught.value.help_text


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\x00" * 100, "bytes"), (b"\xff" * cifar10.RECORD, "label")]
)
def test_file_that_holds_no_photographs_is_refused(
    photographs: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    for path in photographs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / cifar10.TEST).write_bytes(content)
    with pytest.raises(DataUnreadable) as caught:
        task_named("cifar10", 0, tmp_path)
    assert reason in str(caught.value)
