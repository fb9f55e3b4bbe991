"""Trains the published MNIST-1D baselines on Esper's generated data, beside the published accuracies.

Greydanus (arXiv:2011.14439) reports test accuracies of 32 % for a linear model, 68 % for an MLP and
94 % for a CNN. Models and settings here are the published ones (Adam, 1e-2, batches of 100, 6,000
steps, 4,000 training examples): agreement says that the generator makes the published data.

    python benchmarks/mnist1d_published.py --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.simic.tasks import Task, task_named


class PublishedMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(40, 100), nn.Linear(100, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x.flatten(1)))
        logits: Tensor = self.last(h + F.relu(self.second(h)))
        return logits


@dataclass(frozen=True)
class Baseline:
    name: str
    published: int
    build: Callable[[], nn.Module]


def published_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(1, 25, 5, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(125, 10)),
    )


BASELINES = (
    Baseline("linear", 32, lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 10))),
    Baseline("MLP", 68, PublishedMLP),
    Baseline("CNN", 94, published_cnn),
)


def test_accuracy(build: Callable[[], nn.Module], task: Task, seed: int, steps: int) -> float:
    """Percent of the test split, after training through the batches in order as published."""
    torch.manual_seed(seed)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = task.train.x, task.train.y
    for step in range(steps):
        start = step * 100 % len(y)
        loss = F.cross_entropy(model(x[start : start + 100]), y[start : start + 100])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        return 100.0 * task.hits(model(task.test.x), task.test.y).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs per model, on data drawn apart")
    parser.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args()
    print("| model | published | here, mean | each seed |")
    print("| --- | --- | --- | --- |")
    for baseline in BASELINES:
        scores = [
            test_accuracy(baseline.build, task_named("mnist1d", seed), seed, arguments.steps)
            for seed in range(arguments.seeds)
        ]
        each = ", ".join(f"{score:.1f}" for score in scores)
        print(
            f"| {baseline.name} | {baseline.published} % | {statistics.mean(scores):.1f} % | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
