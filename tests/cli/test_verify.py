"""esperc verify: one document, and the exit code of what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import esper
from esper.cli.esperc import main


def test_a_blueprint_is_verified_kernel_by_kernel() -> None:
    result = CliRunner().invoke(main, ["verify", "norm", "--set", "features=8", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1 and document["ok"] is True
    assert {kernel["direction"] for kernel in document["kernels"]} == {"forward", "backward"}
    for kernel in document["kernels"]:
        assert kernel["ok"] and kernel["max_error"] <= kernel["allowed_error"]
    assert [(whole["direction"], whole["ok"]) for whole in document["wholes"]] == [
        ("forward", True),
        ("backward", True),
    ]


def test_a_compiled_seed_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "norm.seed"
    compiled = CliRunner().invoke(
        main, ["compile", "norm", "--set", "features=8", "--target", "sm_90", "-o", str(path)]
    )
    assert compiled.exit_code == 0, compiled.output
    result = CliRunner().invoke(main, ["verify", str(path), "--size", "N=2"])
    assert result.exit_code == 0, result.output
    assert "6 of 6 kernels pass at N = 2" in result.stdout
    refused = CliRunner().invoke(main, ["verify", str(path), "--set", "features=4"])
    assert refused.exit_code == 2


def test_a_missing_seed_is_the_inputs_fault() -> None:
    assert CliRunner().invoke(main, ["verify", "none.seed"]).exit_code == 1


def test_a_graph_that_passes_made_is_compiled_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph alone: an artifact states no source then, and there is no tree to print."""
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    graph, seed = str(tmp_path / "norm.ir"), str(tmp_path / "norm.seed")
    given = ["norm", "--set", "features=8"]
    for command in (
        ["opt", *given, "-o", graph],
        ["verify", graph, "--size", "N=2"],
        ["compile", graph, "--target", "sm_90", "-o", seed],
        ["compile", graph, "--emit", "torch"],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    same = CliRunner().invoke(main, ["compile", graph, "--target", "sm_90", "-o", graph])
    assert same.exit_code == 1 and "E1006" in same.output
    for refused in (["compile", graph, "--emit", "ast"], ["compile", graph, "--set", "features=4"]):
        assert CliRunner().invoke(main, refused).exit_code == 2
    assert sum(weight.numel() for weight in esper.load(seed).parameters()) == 8 + 8 * 8 + 8
