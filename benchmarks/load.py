"""How long `esper.load` takes for the library's compiled seeds, in process time, imports apart.

Each blueprint is compiled to a `.seed` file for one target. Then a process of its own imports what loading
needs, by loading another seed, and loads the file for the first time and 20 times more. The goal is for the
first load, which covers reading, every digest, the graph's checks, and fresh weights.

    python benchmarks/load.py [BLUEPRINT…]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import esper
from esper.urza.builder.processes import child_environment

RESULTS = Path(__file__).parent / "results"
BLUEPRINTS = ("mlp_block", "attention", "mobilenet_block", "transformer_block")
OTHER = "norm"
TARGET = "sm_90"
GOAL_MS = 50.0

LOAD = """
import json, statistics, sys, time
import esper

def load_ms(path):
    begun = time.process_time()
    esper.load(path)
    return (time.process_time() - begun) * 1e3

other, path = sys.argv[1:]
load_ms(other)
first = load_ms(path)
print(json.dumps([first, statistics.median(load_ms(path) for _ in range(20))]))
"""


def row(name: str, folder: Path) -> dict[str, Any]:
    path = save(name, folder)
    seed = esper.load(path)
    command = [sys.executable, "-c", LOAD, str(folder / f"{OTHER}.seed"), str(path)]
    environment = child_environment(OMP_NUM_THREADS="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first_ms, later_ms = json.loads(done.stdout)
    return {
        "blueprint": name,
        "nodes": len(seed.ir.nodes),
        "parameters": sum(parameter.numel() for parameter in seed.parameters()),
        "bytes": path.stat().st_size,
        "first_ms": first_ms,
        "later_ms": later_ms,
    }


def save(name: str, folder: Path) -> Path:
    """The compiled seed of a library blueprint at its default parameters."""
    path = folder / f"{name}.seed"
    if not path.exists():
        esper.compile(name, target=TARGET, precision="bf16").save(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blueprints", nargs="*", default=BLUEPRINTS)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/load.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="esper-load-") as place:
        save(OTHER, Path(place))
        rows = [row(name, Path(place)) for name in arguments.blueprints]
    lines = [
        "| blueprint | nodes | parameters | file, bytes | first load, ms | later loads, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {found['blueprint']} | {found['nodes']} | {found['parameters']:,} | {found['bytes']:,} "
            f"| {found['first_ms']:.1f} | {found['later_ms']:.1f} |"
            for found in rows
        ),
    ]
    print("\n".join(lines))
    if arguments.write:
        (RESULTS / "load.md").write_text(
            "# Loading compiled seeds\n\n"
            f"`python benchmarks/load.py --write`: process time, imports apart; code for {TARGET}, bf16; "
            f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}. "
            f"The goal is {GOAL_MS:g} ms.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
