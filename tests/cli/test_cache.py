"""`esperc cache` shows what is built, and removes what was used longest ago."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.cache import cache
from esper.urza.builder.cache import KernelCache


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelCache:
    """Two entries of which the second was used later."""
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    found = KernelCache()
    for number, name in enumerate(("early", "late")):
        key = f"{number}a" * 32
        description = {"kernel": name, "direction": "forward", "target": "sm_90"}
        found.store(key, description, {"kernel.cubin": name.encode() * 100})
        os.utime(entry_file(found, key), (1e9 + number, 1e9 + number))
    return found


def entry_file(kernels: KernelCache, key: str) -> Path:
    return kernels.folder / "kernels" / key[:2] / key / "entry.json"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cache, arguments, catch_exceptions=False)


def test_ls_lists_kernels_by_their_last_use(kernels: KernelCache) -> None:
    lines = run("ls").stdout.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["late", "early"]
    assert lines[1].split()[3] == "2001-09-09T01:46:41Z"
    assert lines[-1].startswith("2 kernels, ") and lines[-1].endswith(str(kernels.folder))


def test_a_damaged_entry_is_shown_as_such(kernels: KernelCache) -> None:
    entry_file(kernels, "0a" * 32).with_name("kernel.cubin").write_bytes(b"")
    assert "damaged" in run("ls").stdout
    whole = {entry["kernel"]: entry["whole"] for entry in json.loads(run("ls", "--json").stdout)["entries"]}
    assert whole == {"early": False, "late": True}


def test_listing_is_no_use(kernels: KernelCache) -> None:
    assert run("ls").stdout == run("ls").stdout


def test_prune_removes_what_was_used_longest_ago(kernels: KernelCache) -> None:
    document = json.loads(run("prune", "--limit", "1K", "--json").stdout)
    assert [entry["kernel"] for entry in document["entries"]] == ["late"]
    assert [entry["kernel"] for entry in document["removed"]] == ["early"]
    assert document["bytes"] == document["entries"][0]["bytes"] <= 1024
    assert run("prune", "--limit", "0").stdout.startswith("removed 1 of 1 kernels")
    assert json.loads(run("ls", "--json").stdout)["entries"] == []


def test_records_are_told_from_kernels(kernels: KernelCache) -> None:
    description = {"kind": "record", "kernel": "all of norm", "target": "sm_80,sm_90"}
    kernels.store("2a" * 32, description, {"report.json": b"{}"})
    lines = run("ls").stdout.splitlines()
    assert [line.split()[4] for line in lines[:4]] == ["used", "record", "kernel", "kernel"]
    assert lines[1].endswith("all of norm") and lines[-1].startswith("2 kernels, 1 records, ")
    kinds = [entry["kind"] for entry in json.loads(run("ls", "--json").stdout)["entries"]]
    assert kinds == ["record", "kernel", "kernel"]
    assert run("prune", "--limit", "0").stdout.startswith("removed 2 of 2 kernels and 1 of 1 records, ")


def test_path_prints_the_folder_alone(kernels: KernelCache) -> None:
    assert run("path").stdout == f"{kernels.folder}\n"


def test_wrong_usage_is_told(kernels: KernelCache) -> None:
    assert run("ls", "--limit", "1K").exit_code == 2
    assert "`lots` is no size" in run("prune", "--limit", "lots").stderr
