"""A compilation on record is what it would be if it were made again; whatever changes in it makes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esper.files import write_whole
from esper.lang import lower
from esper.urza import records
from esper.urza.artifact import read_artifact
from esper.urza.builder.cache import KernelCache
from esper.urza.records import Compiled, compile_once

PASSING = ("cached", "compile_ms", "triton_invocations")


def compiled(folder: Path, **changes: Any) -> Compiled:
    given: dict[str, Any] = {"sizes": {"N": 8}, "source": "text", "options": {}, "with_artifact": True}
    ir = lower("norm", features=changes.pop("features", 16))
    return compile_once(ir, changes.pop("targets", ["sm_90"]), cache=KernelCache(folder), **given | changes)


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
def test_what_was_asked_for_otherwise_is_made_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    before = compiled(tmp_path)
    changed = compiled(tmp_path, **change)
    assert (changed.artifact, lasting(changed)) != (before.artifact, lasting(before))
    assert changed.report["cached"]  # its kernels are the same


def test_a_changed_compiler_finds_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(tmp_path / "cache")
    (tmp_path / "rule.py").write_text("")
    before = len(list(KernelCache(tmp_path / "cache").entries()))
    stamp = records._stamp
    monkeypatch.setattr(records, "_stamp", lambda folders: stamp([*folders, tmp_path]))
    compiled(tmp_path / "cache")
    assert len(list(KernelCache(tmp_path / "cache").entries())) == before + 1


def test_a_damaged_record_is_made_again(tmp_path: Path) -> None:
    first = compiled(tmp_path)
    (report,) = tmp_path.glob("kernels/*/*/report.json")
    report.write_text("{}")
    assert lasting(compiled(tmp_path)) == lasting(first)
