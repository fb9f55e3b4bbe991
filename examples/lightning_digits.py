"""Growing a LightningModule: a classifier of scikit-learn's digits, its Trainer given one callback more.

python examples/lightning_digits.py [EPOCHS]
"""

from __future__ import annotations

import sys
from typing import Any

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import esper


class Digits(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        self.example_input_array = torch.zeros(2, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main(epochs: int) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(digits.target)
    training, held_out = TensorDataset(x[:1200], y[:1200]), TensorDataset(x[1200:], y[1200:])

    def held_out_losses(model: nn.Module) -> Tensor:
        model.eval()
        return cross_entropy(model(x[1200:]), y[1200:], reduction="none")

    growing = esper.GrowthCallback(
        "body",
        blueprints=["conv_enhance", "depthwise"],
        loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]),
        evaluate=held_out_losses,
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[growing], enable_checkpointing=False, **quiet)
    model = Digits()
    trainer.fit(
        model, DataLoader(training, batch_size=50, shuffle=True), DataLoader(held_out, batch_size=200)
    )
    print(f"held-out loss {float(trainer.callback_metrics['val_loss']):.3f}")
    esper.print_slots(model)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
