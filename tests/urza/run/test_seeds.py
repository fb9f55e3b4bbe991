"""From a blueprint to a seed, to a `.seed` file, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import esper
from esper.errors import WrongArgument
from esper.urza.artifact import read_artifact, write_artifact
from esper.urza.errors import ArtifactTampered, ArtifactUnreadable


@pytest.fixture(autouse=True)
def kernel_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))


def test_a_blueprint_is_a_module_that_starts_as_the_identity() -> None:
    seed = esper.compile("mlp_block", features=16)
    x = torch.randn(4, 3, 3, 16)
    assert torch.equal(seed(x), x)
    assert sum(p.numel() for p in seed.parameters()) == esper.lower("mlp_block", features=16).parameters


def test_a_seed_file_gives_the_same_seed_back(tmp_path: Path) -> None:
    seed = esper.compile("norm", features=16, target="sm_90", generator=torch.Generator().manual_seed(1))
    seed.save(tmp_path / "norm.seed")
    again = esper.load(tmp_path / "norm.seed")
    assert again.ir == seed.ir
    again.load_state_dict(seed.state_dict())
    x = torch.randn(2, 5, 5, 16)
    assert torch.equal(again(x), seed(x))
    assert read_artifact(tmp_path / "norm.seed").targets == ("sm_90",)


def test_a_file_whose_graph_is_not_the_one_it_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "norm.seed"
    esper.compile("norm", features=16, target="sm_90").save(path)
    other = esper.lower("norm", features=32)
    write_artifact(path, replace(read_artifact(path), ir_json=other.to_json()))
    with pytest.raises(ArtifactTampered, match="the graph is not the one"):
        esper.load(path)


def test_trust_is_given_by_a_truth_value_alone(tmp_path: Path) -> None:
    with pytest.raises(WrongArgument, match="trust_kernels"):
        esper.load(tmp_path / "none.seed", trust_kernels="no")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match=r"none\.seed"):
        esper.load(tmp_path / "none.seed")


def test_graphs_are_asked_for_and_wait_for_a_gpu(tmp_path: Path) -> None:
    seed = esper.compile("norm", features=16, tier="triton", cuda_graphs=True, target="sm_90")
    x = torch.randn(2, 5, 5, 16)
    seed.eval()
    assert torch.equal(seed(x), x)
    seed.save(tmp_path / "norm.seed")
    again = esper.load(tmp_path / "norm.seed", cuda_graphs=True)
    assert torch.equal(again.eval()(x), x)
