"""How a seed's training before it is blended in changes what growth is worth, on MNIST-1D.

The same host, data, policy and gates with each kind of incubation, and the host that never grows:
held-out gains over the controls, seeds kept, and test accuracy at the end.

    python benchmarks/incubation.py --seeds 6
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from esper.simic.config import load_config
from esper.simic.run import FinishedRun, run_training

ARMS: dict[str, dict[str, Any]] = {
    "never grown": {"policy": "never"},
    "none": {"incubation": "none"},
    "straight_through": {"incubation": "straight_through"},
    "counterfactual": {"incubation": "counterfactual"},
}


def grown(options: dict[str, Any], seed: int) -> FinishedRun:
    with tempfile.TemporaryDirectory() as folder:
        return run_training(load_config(None, {**options, "seed": seed}), Path(folder) / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    print("| incubation | test accuracy, mean | each seed | seeds kept | mean gain over control |")
    print("| --- | --- | --- | --- | --- |")
    for name, options in ARMS.items():
        runs = [grown(options, seed) for seed in range(arguments.seeds)]
        scores = [100 * run.result.test.accuracy for run in runs]
        lives = [life for run in runs for life in run.history.seeds]
        fates = [life.fossilized for life in lives if life.fossilized is not None]
        gains = [100 * event.improvement for event in fates if event.improvement is not None]
        each = ", ".join(f"{score:.1f}" for score in scores)
        gain = f"{statistics.mean(gains):.1f} %" if gains else "–"
        kept = f"{len(gains)} of {len(lives)}" if lives else "–"
        print(f"| {name} | {statistics.mean(scores):.1f} % | {each} | {kept} | {gain} |", flush=True)


if __name__ == "__main__":
    main()
