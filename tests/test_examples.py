"""The scripts in examples/ run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["grow", "grow_gpt2", "grow_resnet", "grow_frozen_vit"])
def test_growing_a_model_that_esper_did_not_make(name: str) -> None:
    script = ROOT / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("epoch 1: held-out loss")
    assert "DORMANT" in done.stdout


def test_growing_a_lightning_module() -> None:
    script = ROOT / "examples" / "lightning_digits.py"
    done = subprocess.run([sys.executable, str(script), "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("held-out loss") and "DORMANT" in done.stdout
