"""What stands at the top: the public face, what importing costs, and that a bare checkout is enough."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import esper
from esper.errors import EsperError

ROOT = Path(__file__).resolve().parent.parent

IMPORT_IS_LIGHT = """
import sys
import esper
heavy = {"torch", "triton", "numpy", "networkx", "lark", "click", "pydantic"} & set(sys.modules)
assert not heavy, heavy
assert esper.EsperError.__name__ == "EsperError"
assert not {"torch", "triton"} & set(sys.modules)
"""

READS_WHAT_TRAVELS_WITH_IT = """
from importlib.resources import files
import esper.grammar, esper.blueprints
assert files("esper.grammar").joinpath("blueprint.lark").is_file()
assert files("esper.blueprints").is_dir()
assert files("esper.kernels").joinpath("matmul.py").is_file()
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `program` with this checkout on PYTHONPATH and nothing installed of it in sight."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", [IMPORT_IS_LIGHT, READS_WHAT_TRAVELS_WITH_IT], ids=["light", "resources"])
def test_a_bare_checkout_on_the_path_is_enough(program: str, tmp_path: Path) -> None:
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(esper.FACE))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(esper, name) is getattr(import_module(esper.FACE[name]), name)
    assert name in dir(esper)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="`nonsense`"):
        _ = esper.nonsense


def test_the_root_error_is_public() -> None:
    assert esper.EsperError is EsperError
