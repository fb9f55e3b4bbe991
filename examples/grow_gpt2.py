"""A GPT-2 from transformers, small and untrained, grows while it learns a module of Python's library.

python examples/grow_gpt2.py [EPOCHS]        needs transformers
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

import esper

TEXT = Path(textwrap.__file__).read_text(encoding="utf-8")
ALPHABET = sorted(set(TEXT))


def main(epochs: int) -> None:
    torch.manual_seed(0)
    windows = torch.tensor([ALPHABET.index(character) for character in TEXT]).unfold(0, 33, 32)
    windows = windows[torch.randperm(len(windows))]
    held_out, training = windows[:100], windows[100:]
    config = GPT2Config(
        vocab_size=len(ALPHABET), n_positions=32, n_embd=32, n_layer=2, n_head=4,
        use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        logits = model(input_ids=rows[:, :-1]).logits
        return cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none").mean(1)

    model, example = GPT2LMHeadModel(config), {"input_ids": windows[:2, :-1]}
    model = esper.attach(model, r"transformer\.h\.\d", example, incubation="counterfactual")
    optimizer = esper.GrowthOptimizer(torch.optim.AdamW(model.parameters(), lr=3e-3))
    growth = esper.Growth(
        model, optimizer, blueprints=["mlp_block", "norm"],
        loss=lambda model, rows: losses(model, rows).mean(),
        evaluate=lambda model: losses(model.eval(), held_out),
    )  # fmt: skip
    for epoch in range(1, epochs + 1):
        for rows in training[torch.randperm(len(training))].split(16):
            optimizer.zero_grad()
            loss = losses(model.train(), rows).mean()
            loss.backward()
            optimizer.step()
            growth.observe(loss, rows)
        print(f"epoch {epoch}: held-out loss {growth.step().val_loss:.3f}")
    esper.print_slots(model)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
