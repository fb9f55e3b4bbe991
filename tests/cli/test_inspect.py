"""`esperc inspect` prints the manifest and runs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.inspect import inspect
from esper.urza.artifact import Artifact, write_artifact
from esper.urza.builder.processes import child_environment
from esper.urza.errors import ArtifactUnreadable
from esper.urza.kernel import BuiltKernel, KernelSource, Resources


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    built = BuiltKernel(
        kernel=KernelSource("hidden", "forward", "raise SystemExit", "hidden", (), (1,)),
        target="sm_90",
        cubin=b"\x7fELF",
        symbol="hidden",
        num_warps=4,
        scratch_bytes=0,
        resources=Resources(64, 0, 1024, 4, "wgmma", 128, 1.0),
        ttir="",
        ptx="",
        cached=False,
    )
    artifact = Artifact(
        blueprint="mlp_block",
        ir_hash="5f" * 32,
        ir_json="{}",
        source="",
        kernels_py="raise SystemExit",
        module_py="raise SystemExit",
        report_json="{}",
        options={"precision": "bf16"},
        versions={"esper": "0.1.0", "triton": "3.7.1"},
        targets=("sm_90",),
    )
    path = tmp_path / "mlp.seed"
    write_artifact(path, artifact.with_kernels((built,)))
    return path


def test_text_names_blueprint_targets_and_kernels(seed: Path) -> None:
    result = CliRunner().invoke(inspect, [str(seed)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "mlp_block" in result.stdout and "digests checked" in result.stdout
    assert "4 wgmma" in result.stdout and "precision=bf16" in result.stdout


def test_json_is_the_manifest(seed: Path) -> None:
    result = CliRunner().invoke(inspect, [str(seed), "--json"], catch_exceptions=False)
    manifest = json.loads(result.stdout)
    assert manifest["schema_version"] == 1
    assert manifest["kernels"][0]["resources"]["registers"] == 64
    assert manifest["files"]["cubins/sm_90/hidden.cubin"]["size"] == 4


def test_a_damaged_seed_is_an_error(seed: Path) -> None:
    seed.write_bytes(seed.read_bytes()[:-40])
    with pytest.raises(ArtifactUnreadable):
        CliRunner().invoke(inspect, [str(seed)], catch_exceptions=False)


def test_inspecting_loads_neither_torch_nor_triton(seed: Path) -> None:
    code = (
        "import sys; from esper.cli.inspect import inspect; "
        f"inspect([{str(seed)!r}], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=child_environment(), check=False).returncode == 0
