"""Process replay: what differs between the kernels of two commits, in a small repository of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.replay import TREES, of_kernels, stem

ROOT = Path(__file__).resolve().parents[1]

BLUEPRINT = """## One function.
blueprint {name}(width: dim = 64) {{
    input x: f32[N, width]
    output gelu(x)
}}
"""

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of this compiler with two blueprints: `first`, and `second`, where one is another."""
    folder = tmp_path_factory.mktemp("repository")
    for tree in TREES:
        shutil.copytree(ROOT / tree, folder / tree, ignore=shutil.ignore_patterns("__pycache__", "*.esp"))
    (folder / "blueprints" / "same.esp").write_text(BLUEPRINT.format(name="same"))
    changing = folder / "blueprints" / "changing.esp"
    changing.write_text(BLUEPRINT.format(name="changing"))
    git(folder, "init", "-q")
    commit(folder, "first")
    changing.write_text(changing.read_text().replace("gelu", "tanh"))
    commit(folder, "second")
    return folder


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Esper", "-c", "user.email=esper@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, tag: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", tag)
    git(folder, "tag", tag)


def replay(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.replay", "--repository", str(repository), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_nothing_that_differs_takes_one_line(repository: Path) -> None:
    done = replay(repository, "second", ".")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 blueprints, 4 kernels: ") and done.stdout.endswith("nothing differs\n")
    assert done.stdout.count("\n") == 1


def test_what_differs_is_shown_kernel_by_kernel(repository: Path) -> None:
    done = replay(repository, "first", "second")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "first -> second: 4 -> 4 kernels"
    assert "changing, forward: 1 -> 1 kernels" in lines and "changing, backward: 1 -> 1 kernels" in lines
    assert not any(line.startswith("same") for line in lines)
    changed = [line.strip() for line in lines if line.strip().startswith(("-", "+"))]
    assert any(line[0] == "-" and "gelu" in line for line in changed)
    assert any(line[0] == "+" and "tanh" in line for line in changed)


def test_a_commit_that_is_none_is_told(repository: Path) -> None:
    done = replay(repository, "third", "second")
    assert done.returncode == 1 and "git has no `third`" in done.stderr


def test_a_commit_that_plans_nothing_is_told(repository: Path) -> None:
    done = replay(repository, "first", "second", "--blueprints", "absent")
    assert done.returncode == 1 and "plans nothing" in done.stderr and "absent" in done.stderr


def kernel(name: str, source: str) -> dict[str, str]:
    return {"name": name, "source": source, "launch": "grid 1"}


def test_a_kernel_more_does_not_change_those_behind_it() -> None:
    before = [kernel("map_0_gelu", "gelu"), kernel("map_1_relu", "relu")]
    after = [kernel("map_0_gelu", "gelu"), kernel("map_1_tanh", "tanh"), kernel("map_2_relu", "relu")]
    (added,) = of_kernels(before, after)
    assert added.startswith("+ map_1_tanh\n") and "+ tanh" in added
    (removed,) = of_kernels(after, before)
    assert removed.startswith("- map_1_tanh\n")


def test_a_kernel_that_changed_is_shown_as_one() -> None:
    (changed,) = of_kernels([kernel("map_3_gelu", "x = 1")], [kernel("map_2_gelu", "x = 2")])
    assert changed.splitlines()[0] == "* map_2_gelu"
    lines = [line.strip() for line in changed.splitlines()[1:]]
    assert [line for line in lines if line.startswith(("-", "+"))] == ["-x = 1", "+x = 2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("map_0", "map"),
        ("matmul_12_linear_2_matmul", "matmul_linear_2_matmul"),
        ("attention_query_grad_16_multi_head_attention", "attention_query_grad_multi_head_attention"),
    ],
)
def test_a_kernel_is_known_without_its_number(name: str, expected: str) -> None:
    assert stem(name) == expected
