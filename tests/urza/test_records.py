"""A compilation on record is what it would be if it were made again; whatever changes in it makes it anew."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esper.files import write_whole
from esper.lang import lower
from esper.urza import records
from esper.urza.artifact import read_artifact
from esper.urza.builder.cache import Entry, KernelCache
from esper.urza.builder.processes import child_environment
from esper.urza.records import Compiled, compile_once

ROOT = Path(__file__).parents[2]
PASSING = ("cached", "compile_ms", "triton_invocations")


@pytest.fixture(autouse=True, scope="module")
def unchanged() -> Iterator[None]:
    """The compiler's files count as those that are loaded, though someone edits them while tests run; that
    a change is seen is tested on a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_compiler", lambda: records._LOADED)
        yield


def compiled(folder: Path, **changes: Any) -> Compiled:
    given: dict[str, Any] = {"sizes": {"N": 8}, "source": "text", "options": {}, "with_artifact": True}
    ir = lower("norm", features=changes.pop("features", 16))
    return compile_once(ir, changes.pop("targets", ["sm_90"]), cache=KernelCache(folder), **given | changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds one compilation."""
    folder = tmp_path_factory.mktemp("built")
    compiled(folder)
    return folder


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "cache")


def lasting(made: Compiled) -> dict[str, Any]:
    return {name: value for name, value in made.report.items() if name not in PASSING}


def test_the_second_time_gives_the_same_and_invokes_nothing(tmp_path: Path) -> None:
    first, second, elsewhere = (compiled(tmp_path / name) for name in ("a", "a", "b"))
    assert first.report["triton_invocations"] > 0 and not first.report["cached"]
    assert second.report["triton_invocations"] == 0 and second.report["cached"]
    assert lasting(first) == lasting(second) == lasting(elsewhere)
    assert first.artifact == second.artifact == elsewhere.artifact
    assert second.artifact is not None
    write_whole(tmp_path / "norm.seed", second.artifact)
    assert read_artifact(tmp_path / "norm.seed").blueprint == "norm"


@pytest.mark.parametrize(
    "change",
    [{"sizes": {"N": 9}}, {"source": "other"}, {"options": {"set.features": "16"}}, {"with_artifact": False}],
    ids=str,
)
def test_what_was_asked_for_otherwise_is_made_anew(cache: Path, change: dict[str, Any]) -> None:
    before = compiled(cache)
    changed = compiled(cache, **change)
    assert (changed.artifact, lasting(changed)) != (before.artifact, lasting(before))
    assert changed.report["cached"]  # its kernels are the same


def records_in(folder: Path) -> list[Entry]:
    return [e for e in KernelCache(folder).entries() if e.description.get("kind") == "record"]


COMPILE = """
import sys
from pathlib import Path
import esper, esper.ops
from esper.ir import BlueprintIR
from esper.urza.records import compile_once

changed, text = sys.argv[1:]
ir = BlueprintIR.from_text(text)
if changed:
    with (Path(esper.__file__).parent / changed).open("a") as file:
        file.write("\\n")
made = compile_once(ir, ["sm_90"], sizes={}, source="", options={}, with_artifact=False)
print(made.report["cached"], made.unrecorded)
"""
SMALL = "blueprint small {\n  %x = input() : i32[N, 4]\n  %y = add(%x, %x) : i32[N, 4]\n  output y = %y\n}\n"


def test_a_compiler_finds_no_record_of_another(tmp_path: Path) -> None:
    """A copy of the package is changed, by its contents alone, while and after it compiles."""
    package, cache = tmp_path / "esper", tmp_path / "cache"
    shutil.copytree(ROOT / "esper", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "kernels", package / "kernels")
    environment = child_environment(ESPER_CACHE_DIR=str(cache), PYTHONPATH=str(tmp_path))

    def compile_in_copy(changed: str = "") -> str:
        command = [sys.executable, "-c", COMPILE, changed, SMALL]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert "changed meanwhile" in compile_in_copy("urza/compiler.py") and not records_in(cache)
    assert "changed meanwhile" not in compile_in_copy() and len(records_in(cache)) == 1
    for path in package.rglob("*.py"):
        os.utime(path)
    assert compile_in_copy() == "True" and len(records_in(cache)) == 1
    with (package / "lang" / "sizes.py").open("a") as file:
        file.write("\n")
    compile_in_copy()
    assert len(records_in(cache)) == 2


def test_where_a_graph_was_written_is_part_of_what_it_is_made_from(tmp_path: Path) -> None:
    """An artifact tells it, and the graph's text does not."""
    text = (ROOT / "blueprints" / "norm.esp").read_text()
    made = []
    for name in ("one.esp", "two.esp"):
        (tmp_path / name).write_text(text)
        ir = lower(tmp_path / name, features=16)
        for cache in ("shared", name):
            given: dict[str, Any] = {"sizes": {}, "source": text, "options": {}, "with_artifact": True}
            kept = KernelCache(tmp_path / f"{cache}.cache")
            made.append(compile_once(ir, ["sm_90"], cache=kept, **given))
    first, first_alone, second, second_alone = (one.artifact for one in made)
    assert first == first_alone != second == second_alone


def test_a_record_without_its_kernels_is_made_again(cache: Path) -> None:
    compiled(cache)
    kernel = next(cache.glob("kernels/*/*/*.cubin")).parent
    shutil.rmtree(kernel)
    assert compiled(cache).report["triton_invocations"] == 1
    assert kernel.is_dir() and compiled(cache).report["cached"]


def test_using_a_record_is_using_its_kernels(cache: Path) -> None:
    compiled(cache)
    for entry in cache.glob("kernels/*/*/entry.json"):
        os.utime(entry, (1e9, 1e9))
    assert compiled(cache).report["cached"]
    assert all(entry.used_s > 1e9 for entry in KernelCache(cache).entries())


def test_a_cache_that_takes_no_record_is_no_error(cache: Path) -> None:
    """Its kernels are there; a file that grows past the limit is refused as on a full disk."""
    compiled(cache, with_artifact=False)
    before = {entry.key for entry in KernelCache(cache).entries()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        made = compiled(cache, with_artifact=False, sizes={"N": 9})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert made.report["sizes"]["N"] == 9 and "cannot be used" in made.unrecorded
    assert {entry.key for entry in KernelCache(cache).entries()} == before
    assert not list(cache.glob("staging/*"))


def test_a_link_to_nothing_among_what_is_stamped_does_not_count(cache: Path) -> None:
    first = compiled(cache)
    (cache / "tuning").mkdir()
    (cache / "tuning" / "gone.json").symlink_to(cache / "nothing")
    assert compiled(cache).report["cached"] and compiled(cache).artifact == first.artifact


def test_a_damaged_record_is_made_again(cache: Path) -> None:
    first = compiled(cache)
    (report,) = cache.glob("kernels/*/*/report.json")
    report.write_text("{}")
    assert lasting(compiled(cache)) == lasting(first)
