"""Growth by a Lightning Trainer: what was saved and loaded goes on as if it had never stopped."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning.pytorch as pl

from esper.kasmina.errors import NoExample, SeveralOptimizers
from esper.kasmina.host.blending import AlphaSchedule
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.gates import GateParameters
from esper.kasmina.lightning import GrowthCallback
from esper.leyline.actions import Action
from esper.leyline.signals import TrainingSignals
from esper.leyline.stages import SeedStage

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, about loaders and loggers
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
EPOCHS = 7


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.GELU())
        self.head = nn.Linear(8, 3)
        self.example_input_array = X[:8]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits

    def training_step(self, batch: Any, index: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3)}


def callback(**changes: Any) -> GrowthCallback:
    given: dict[str, Any] = {
        "policy": "schedule",
        "policy_options": {"first_epoch": 1},
        "blueprints": ["mlp_block"],
        "loss": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        "evaluate": lambda model: F.cross_entropy(model(X), Y, reduction="none"),
        "gates": GateParameters(permissive=True),
        "blend": AlphaSchedule(steps=4),
    }
    return GrowthCallback("body", **given | changes)


def fitted(
    model: Classifier,
    growing: GrowthCallback,
    epochs: int,
    folder: Path,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[growing],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **(settings or {}),
    )
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    trainer.fit(model, loader, loader, **options)
    return trainer


def module() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


@pytest.mark.parametrize("stopped_after", range(1, EPOCHS))
def test_a_fit_that_goes_on_from_a_checkpoint_ends_as_an_unbroken_one(
    tmp_path: Path, stopped_after: int
) -> None:
    whole, growing = module(), callback()
    fitted(whole, growing, EPOCHS, tmp_path)
    assert growing.growth is not None
    assert growing.growth.slots["body"].stage is SeedStage.FOSSILIZED

    part, first = module(), callback()
    fitted(part, first, stopped_after, tmp_path).save_checkpoint(tmp_path / "part.ckpt")
    resumed, second = module(), callback()
    fitted(resumed, second, EPOCHS, tmp_path, ckpt_path=tmp_path / "part.ckpt")
    assert second.growth is not None
    assert second.growth.slots["body"].history == growing.growth.slots["body"].history
    found = resumed.state_dict()
    assert found.keys() == whole.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in whole.state_dict().items())


def test_a_part_of_a_module_grows() -> None:
    model = module()
    GrowthCallback("0", module="body", example=X[:4]).setup(pl.Trainer(logger=False), model, "fit")
    assert list(slots(model.body)) == ["0"]


def test_a_module_without_an_example_is_refused(tmp_path: Path) -> None:
    model = module()
    model.example_input_array = None
    with pytest.raises(NoExample):
        fitted(model, callback(), 1, tmp_path)


def test_several_optimizers_are_refused(tmp_path: Path) -> None:
    class Two(Classifier):
        automatic_optimization = False

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.body, self.head)]

    with pytest.raises(SeveralOptimizers):
        fitted(Two(), callback(), 1, tmp_path)


@pytest.mark.parametrize("stopped_after", [3, EPOCHS - 1])
def test_an_earlier_or_the_same_checkpoint_is_tested_after_the_fit(
    tmp_path: Path, stopped_after: int
) -> None:
    part, first = module(), callback()
    trainer = fitted(part, first, stopped_after, tmp_path)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    (expected,) = trainer.validate(part, loader, verbose=False)
    whole, growing = module(), callback()
    later = fitted(whole, growing, EPOCHS, tmp_path)
    for model, run in ((part, trainer), (whole, later), (whole, later)):
        (found,) = run.validate(model, loader, ckpt_path=tmp_path / "part.ckpt", verbose=False)
        assert found == expected


def test_a_checkpoint_that_was_validated_is_not_what_a_later_fit_begins_with(tmp_path: Path) -> None:
    model, growing = module(), callback()
    fitted(model, growing, EPOCHS, tmp_path).save_checkpoint(tmp_path / "whole.ckpt")
    other, again = module(), callback()
    trainer = fitted(other, again, 1, tmp_path)
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    trainer.validate(other, loader, ckpt_path=tmp_path / "whole.ckpt", verbose=False)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    fitted(other, again, 0, tmp_path)
    assert again.growth is not None and again.growth.slots.ground.step != len(X) // 8 * EPOCHS
    assert not any(parameter.any() for parameter in other.parameters())


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_the_control_clips_as_the_trainer_does(tmp_path: Path, algorithm: str) -> None:
    growing = callback()
    settings = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
    fitted(module(), growing, 1, tmp_path, settings)
    assert growing.growth is not None
    trial = growing.growth.slots.ground.trial
    assert trial is not None
    assert (trial.clip_norm, trial.clip_value) == ((0.01, None) if algorithm == "norm" else (None, 0.01))


def test_growth_steps_in_epochs_that_were_validated(tmp_path: Path) -> None:
    class Watching:
        def __init__(self) -> None:
            self.seen: list[tuple[int, float]] = []

        def decide(self, signals: TrainingSignals) -> list[Action]:
            self.seen.append((signals.global_step, signals.val_loss))
            return []

    policy = Watching()
    growing = callback(policy=policy, policy_options=None, blueprints=[])
    fitted(module(), growing, 6, tmp_path, {"check_val_every_n_epoch": 3})
    steps = len(X) // 8
    assert [step for step, _ in policy.seen] == [3 * steps, 6 * steps]
    assert policy.seen[0][1] != policy.seen[1][1]
