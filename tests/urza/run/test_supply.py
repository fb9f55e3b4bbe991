"""Which native code a seed runs: its file's where somebody vouches for it, else what is built here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import esper
from esper.lang import lower
from esper.urza.artifact import Artifact, write_artifact
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.processes import child_environment
from esper.urza.builder.signature import HIDDEN_PARAMETERS
from esper.urza.compiler import compile_ir, make_programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.errors import UnknownTarget
from esper.urza.run.differentiable import Kernels, run
from esper.urza.run.launcher import Launcher
from esper.urza.run.supply import Ready, Supply, stored_codes
from tests.urza.run.driver_shim import Shim, compiler

IR = lower("norm", features=16)
TARGET = "sm_90"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the machine that built the artifact."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def artifact(home: Path) -> Artifact:
    return compile_ir(IR, [TARGET], cache=KernelCache(home), jobs=2).artifact()


def ready(supply: Supply) -> Ready:
    return supply.request(TARGET).result(timeout=120)


def test_the_machine_that_built_a_file_runs_its_code(
    artifact: Artifact, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(home))
    found = ready(Supply(IR, artifact))
    assert (found.stored, found.invocations) == (len(found.programs.kernels), 0)
    assert {code.cubin for code in found.codes.values()} == set(artifact.cubins.values())


def test_another_machine_builds_every_kernel_again(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path))
    found = ready(Supply(IR, artifact))
    assert found.stored == 0 and found.invocations == len(artifact.kernels)
    assert {code.cubin for code in found.codes.values()} == set(artifact.cubins.values())


def test_a_trusted_file_runs_though_nothing_can_be_built(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path))
    found = ready(Supply(IR, artifact, trust_kernels=True))
    assert found.stored == len(found.codes) == len(found.programs.kernels)
    assert not list(tmp_path.iterdir())


WITHOUT_TRITON = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import esper
from esper.urza.artifact import read_artifact
from esper.urza.run.supply import Supply
from pathlib import Path

path = Path(sys.argv[1])
supply = Supply(esper.load(path, trust_kernels=True).ir, read_artifact(path), trust_kernels=True)
ready = supply.request("sm_90").result()
assert ready.stored == len(ready.programs.kernels), ready.stored
print("ready")
"""


def test_a_trusted_file_needs_neither_triton_nor_a_c_compiler(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "norm.seed"
    write_artifact(path, artifact)
    environment = child_environment(PATH=str(tmp_path))
    command = [sys.executable, "-c", WITHOUT_TRITON, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "ready\n", done.stderr


def test_code_is_not_used_under_another_kernels_name_or_launched_with_other_numbers(
    artifact: Artifact, home: Path
) -> None:
    first, second = artifact.kernels[:2]
    cubins = artifact.cubins
    swapped = {**cubins, first.file: cubins[second.file], second.file: cubins[first.file]}
    wider = replace(
        artifact, kernels=(first.model_copy(update={"num_warps": 2 * first.num_warps}), *artifact.kernels[1:])
    )
    programs, ledger = make_programs(IR), KernelCache(home)
    whole = stored_codes(artifact, programs, TARGET, ledger)
    assert len(whole) == len(artifact.kernels)
    assert len(stored_codes(replace(artifact, cubins=swapped), programs, TARGET, ledger)) == len(whole) - 2
    assert len(stored_codes(wider, programs, TARGET, ledger)) == len(whole) - 1


def test_code_built_with_other_templates_is_not_used_even_if_trusted(artifact: Artifact) -> None:
    other = replace(artifact, versions={**artifact.versions, "templates": "0" * 64})
    assert stored_codes(other, make_programs(IR), TARGET, None) == {}


def test_work_is_done_once_for_a_target() -> None:
    supply = Supply(IR)
    first = supply.request("sm_42")
    assert supply.request("sm_42") is first
    with pytest.raises(UnknownTarget):
        first.result(timeout=120)


# --- what was got ready is launched by a seed ---


@pytest.mark.skipif(compiler() is None, reason="no C compiler for the stand-in driver")
def test_a_call_and_its_gradient_launch_every_kernel_once(artifact: Artifact, tmp_path: Path) -> None:
    shim = Shim(tmp_path)
    found = ready(Supply(IR, artifact, trust_kernels=True))
    codes = [found.codes[kernel.digest] for kernel in found.programs.kernels]
    shim.set(parameters=HIDDEN_PARAMETERS)
    kernels = Kernels(found.programs, Launcher(shim.driver, found.codes, 0, lambda device: 0), CPU)
    seed = esper.compile("norm", features=16)
    for size in (3, 50, 3):
        x = torch.randn(size, 4, 4, 16, requires_grad=True)
        given = {"x": x, **dict(seed.named_parameters()), **dict(seed.named_buffers())}
        names = [leaf.name for leaf in leaves(found.programs.forward.ir)]
        (y, *_) = run(kernels, {name: given[name] for name in names})
        y.sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape
    launched = shim.launched()
    assert len(launched) == 3 * len(codes)
    assert [one.block[0] for one in launched] == [32 * code.num_warps for code in codes] * 3
    assert shim.get("loads") == len({code.cubin for code in codes})
