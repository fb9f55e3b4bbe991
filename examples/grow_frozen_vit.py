"""A trained ViT from transformers is frozen, and gains capacity: seeds learn what it has not.

python examples/grow_frozen_vit.py [EPOCHS]        needs transformers
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification

import esper


def main(epochs: int) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels, order = torch.tensor(digits.target), torch.randperm(len(images))
    training, held_out = order[:1200], order[1200:]
    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, num_labels=10, hidden_size=16, intermediate_size=16,
        num_hidden_layers=2, num_attention_heads=2,
    )  # fmt: skip

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        return cross_entropy(model(pixel_values=images[rows]).logits, labels[rows], reduction="none")

    model = ViTForImageClassification(config)
    plain = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for rows in training.repeat(8).split(50):
        plain.zero_grad()
        losses(model, rows).mean().backward()
        plain.step()

    model.requires_grad_(False)
    example = {"pixel_values": images[:2]}
    model = esper.attach(model, r"vit\.layers\.\d", example, incubation="counterfactual")
    optimizer = esper.GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=3e-3))
    growth = esper.Growth(
        model, optimizer, blueprints=["mlp_block", "attention"],
        loss=lambda model, rows: losses(model, rows).mean(),
        evaluate=lambda model: losses(model.eval(), held_out),
    )  # fmt: skip
    for epoch in range(1, epochs + 1):
        for rows in training[torch.randperm(len(training))].split(50):
            optimizer.zero_grad()
            loss = losses(model.eval(), rows).mean()
            if loss.requires_grad:  # while there is no seed, nothing learns
                loss.backward()
            optimizer.step()
            growth.observe(loss, rows)
        print(f"epoch {epoch}: held-out loss {growth.step().val_loss:.3f}")
    esper.print_slots(model)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
