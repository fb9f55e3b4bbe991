"""Every family of kernels at tiny, prime, odd and whole sizes, in the interpreter, each access recorded.

Windows and attention have graphs of their own in `test_depthwise`, `test_pooling` and `test_attention`, loops
over time in `test_scan_kernels`; here is the rest, and that nothing generated is left over.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pytest

from esper.ir.dims import evaluate_size
from esper.lang import lower
from esper.urza.compiler import Programs, make_programs
from esper.urza.kernel import KernelSource
from esper.urza.verify.verification import verify_programs
from tests.urza.generate import test_attention, test_depthwise, test_pooling

REST = """
blueprint rest(features: dim = 7, channels: dim = 5) {
    input x: f32[N, T, features]
    input image: f32[N, channels, H, W]

    h = x |> linear(features + 3) |> gelu() |> layer_norm()
    scores = einsum(h, h, equation="ntf,nsf->nts") |> softmax()
    output mixed = einsum(scores, h, equation="nts,nsf->ntf")
    output after = x |> transpose(1, 2) |> cumsum(axis=2)
    output across = x |> linear(features) |> transpose(1, 2)
    output bent = tanh(x)
    output before = cumsum(h, axis=1, reverse=true)

    joined = concat(image, sigmoid(image), axis=1)
    output normal = image |> batch_norm() |> silu()
    output both = batch_norm(joined)
    output means = mean(joined, axes=[2, 3]) |> linear(3)
    output greatest = amax(image, axes=[1])
    output largest = x |> transpose(1, 2) |> amax(axes=[2])
    output around = pad(image, pad=[1, 2])
    output turned = joined |> permute(axes=[0, 2, 3, 1]) |> layer_norm()
}

blueprint alone(channels: dim = 5) {
    input image: f32[N, channels, H, W]
    output batch_norm(image)
}
"""

SIZES = {
    "tiny": ("f32", 1, {"N": 1, "T": 1, "H": 1, "W": 1}),
    "odd": ("f32", 21, {"N": 5, "T": 9, "H": 15, "W": 3}),
    "prime": ("bf16", 13, {"N": 3, "T": 7, "H": 5, "W": 11}),
    "whole": ("bf16", 32, {"N": 2, "T": 16, "H": 8, "W": 24}),
}
"""Precision; features and channels, which are fixed; sizes, which are not."""

IMPORTED = re.compile(r"^from esper\.kernels\.(\w+) import (.+)$", re.MULTILINE)
SHARED = {"functions", "sharing"}
"""Modules of what kernels of several families call."""

ELSEWHERE = {"scan"}
"""What `test_scan_kernels` takes through its sizes."""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("families") / "rest.esp"
    path.write_text(REST)
    return path


def rest(blueprint: Path, precision: str, fixed: int) -> Programs:
    return make_programs(lower(blueprint, name="rest", features=fixed, channels=fixed, precision=precision))


def alone(blueprint: Path, precision: str, fixed: int) -> Programs:
    """A sum that shares its launch with no other."""
    return make_programs(lower(blueprint, name="alone", channels=fixed, precision=precision))


@pytest.mark.parametrize("name", SIZES)
def test_kernels_are_right_at_any_size(blueprint: Path, name: str) -> None:
    precision, fixed, sizes = SIZES[name]
    programs = rest(blueprint, precision, fixed)
    found = verify_programs(programs, sizes=sizes)
    assert [kernel for kernel in found.kernels if not kernel.ok] == []
    assert found.outside == () and found.launches == len(programs.kernels) > 20
    image = {axis: sizes[axis] for axis in "NHW"}
    assert verify_programs(alone(blueprint, precision, fixed), sizes=image).ok


def test_whole_sizes_run_kernels_under_promises(blueprint: Path) -> None:
    _, fixed, sizes = SIZES["whole"]
    found = []
    for _, launch, kernel in rest(blueprint, "bf16", fixed).launches():
        if kernel.aligned is not None:
            numbers = {name: evaluate_size(size, sizes) for name, size in launch.sizes.items()}
            found.append(kernel.at(numbers) == kernel.aligned)
    assert sum(found) >= 5 and not all(found)  # what is padded is not whole


def templates(kernels: Iterable[KernelSource]) -> set[str]:
    """The functions of templates that kernels call, as `module.function`."""
    found = {
        (module, name)
        for kernel in kernels
        for module, names in IMPORTED.findall(kernel.source)
        for name in names.split(", ")
    }
    return {f"{module}.{name}" for module, name in found if module not in SHARED}


def entries() -> set[str]:
    """The functions of templates that say how many programs they want, as `module.function`."""
    return {
        f"{file.name.removesuffix('.py')}.{node.name}"
        for file in files("esper.kernels").iterdir()
        if file.name.endswith(".py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and "grid:" in (ast.get_docstring(node) or "").lower()
    }


def test_no_family_is_left_out(blueprint: Path) -> None:
    precision, fixed, _ = SIZES["prime"]
    graphs = [
        test_depthwise.graph(test_depthwise.CASES),
        test_pooling.graph(test_pooling.CASES),
        test_attention.graph(test_attention.CASES),
    ]
    tried = [make(blueprint, precision, fixed) for make in (rest, alone)]
    tried += map(make_programs, graphs)
    left = entries() - templates(kernel for one in tried for kernel in one.kernels)
    assert {name for name in left if name.split(".")[0] not in ELSEWHERE} == set()
