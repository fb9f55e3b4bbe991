"""A ResNet from transformers, small and untrained, grows while it learns scikit-learn's digits.

python examples/grow_resnet.py [EPOCHS]        needs transformers
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import ResNetConfig, ResNetForImageClassification

import esper


def main(epochs: int) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    labels, order = torch.tensor(digits.target), torch.randperm(len(images))
    training, held_out = order[:1200], order[1200:]
    config = ResNetConfig(
        num_channels=1,
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,
    )

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        return cross_entropy(model(pixel_values=images[rows]).logits, labels[rows], reduction="none")

    model, example = ResNetForImageClassification(config), {"pixel_values": images[:2]}
    model = esper.attach(model, r"resnet\.encoder\.stages\.\d", example, incubation="counterfactual")
    optimizer = esper.GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2))
    growth = esper.Growth(
        model, optimizer, blueprints=["conv_enhance", "depthwise"],
        loss=lambda model, rows: losses(model, rows).mean(),
        evaluate=lambda model: losses(model.eval(), held_out),
    )  # fmt: skip
    for epoch in range(1, epochs + 1):
        for rows in training[torch.randperm(len(training))].split(50):
            optimizer.zero_grad()
            loss = losses(model.train(), rows).mean()
            loss.backward()
            optimizer.step()
            growth.observe(loss, rows)
        print(f"epoch {epoch}: held-out loss {growth.step().val_loss:.3f}")
    esper.print_slots(model)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
