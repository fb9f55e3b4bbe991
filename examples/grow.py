"""Growing a network of your own: a small convolutional classifier of scikit-learn's digits.

python examples/grow.py [EPOCHS]
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import esper


def main(epochs: int) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    training, held_out = order[:1200], order[1200:]

    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
    )
    model = esper.attach(model, slots=r"[01]", example=images[:2])
    optimizer = esper.GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2))

    def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    def held_out_losses(model: nn.Module) -> Tensor:
        model.eval()
        return cross_entropy(model(images[held_out]), labels[held_out], reduction="none")

    growth = esper.Growth(
        model, optimizer, blueprints=["conv_enhance", "depthwise"], loss=loss_of, evaluate=held_out_losses
    )
    for epoch in range(1, epochs + 1):
        for rows in training[torch.randperm(len(training))].split(50):
            batch = images[rows], labels[rows]
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            growth.observe(loss, batch)
        signals = growth.step()
        print(f"epoch {epoch}: held-out loss {signals.val_loss:.3f}")
    esper.print_slots(model)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
