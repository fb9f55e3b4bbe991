"""The kernel cache under damage, races and sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esper.urza.builder.cache import VOUCHED, KernelCache
from esper.urza.builder.processes import child_environment
from esper.urza.errors import CacheUnusable

KEY = "ab" * 32
FILES = {"kernel.cubin": b"code", "kernel.ptx": b"text"}

WRITER = """
import sys
from pathlib import Path
from esper.urza.builder.cache import KernelCache
cache = KernelCache(Path(sys.argv[1]))
for turn in range(int(sys.argv[2])):
    for number in range(8):
        key = f"{number:064x}"
        cache.store(key, {"number": number}, {"kernel.cubin": bytes([number]) * 20000})
        for path in (cache.folder / "kernels").glob("*/*/kernel.cubin"):
            if turn % 3 == 0 and path.parent.name == key:
                path.write_bytes(b"damaged")
        found = cache.load(key)
        assert found is None or found == ({"number": number}, {"kernel.cubin": bytes([number]) * 20000})
"""


def entry_folder(cache: KernelCache) -> Path:
    return cache.folder / "kernels" / KEY[:2] / KEY


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache")
    assert cache.load(KEY) is None
    cache.store(KEY, {"registers": 3}, FILES)
    assert cache.load(KEY) == ({"registers": 3}, FILES)
    assert not list((cache.folder / "staging").iterdir())


@pytest.mark.parametrize("damage", ["truncate", "delete", "swap", "nonsense", "list"])
def test_a_damaged_entry_counts_as_absent_and_is_replaced(tmp_path: Path, damage: str) -> None:
    cache = KernelCache(tmp_path)
    cache.store(KEY, {}, FILES)
    match damage:
        case "truncate":
            (entry_folder(cache) / "kernel.cubin").write_bytes(b"cod")
        case "delete":
            (entry_folder(cache) / "kernel.ptx").unlink()
        case "swap":
            (entry_folder(cache) / "kernel.cubin").write_bytes(b"text")
        case "nonsense":
            (entry_folder(cache) / "entry.json").write_bytes(b"\xff{")
        case "list":
            (entry_folder(cache) / "entry.json").write_text("[]")
    assert cache.load(KEY) is None
    cache.store(KEY, {}, FILES)
    assert cache.load(KEY) == ({}, FILES)


def test_an_entry_under_another_key_counts_as_absent(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    cache.store(KEY, {}, FILES)
    other = cache.folder / "kernels" / "cd" / ("cd" * 32)
    other.parent.mkdir()
    entry_folder(cache).rename(other)
    assert cache.load("cd" * 32) is None


def test_the_ledger_vouches_for_what_was_built_here_alone(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    cache.store(KEY, {}, FILES)
    assert cache.vouches_for({}, b"code")
    assert not cache.vouches_for({}, b"text")
    assert not KernelCache(tmp_path / "elsewhere").vouches_for({}, b"code")


@pytest.mark.parametrize("field", VOUCHED)
def test_the_ledger_vouches_for_no_other_use_of_the_same_code(tmp_path: Path, field: str) -> None:
    cache = KernelCache(tmp_path)
    built = {**dict.fromkeys(VOUCHED, 4), "kernel": "a name", "ptxas_log": "text"}
    cache.store(KEY, built, FILES)
    assert cache.vouches_for({**built, "kernel": "another name"}, b"code")
    assert not cache.vouches_for({**built, field: 8}, b"code")


def test_the_folder_may_be_moved(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "here")
    cache.store(KEY, {"registers": 3}, FILES)
    cache.folder.rename(tmp_path / "there")
    moved = KernelCache(tmp_path / "there")
    assert moved.load(KEY) == ({"registers": 3}, FILES) and moved.vouches_for({}, b"code")


def keys(cache: KernelCache) -> set[str]:
    return {entry.key for entry in cache.entries()}


def test_pruning_keeps_what_was_used_last_within_the_bound(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    stored = [f"{number:064x}" for number in range(6)]
    for number, key in enumerate(stored):
        cache.store(key, {}, {"kernel.cubin": bytes(1000)})
        os.utime(tmp_path / "kernels" / key[:2] / key / "entry.json", (number, number))
    size = next(iter(cache.entries())).size
    assert cache.load(stored[0]) is not None
    removed = cache.prune(3 * size)
    assert keys(cache) == {stored[0], stored[4], stored[5]}
    assert {entry.key for entry in removed} == set(stored[1:4])
    assert cache.vouches_for({}, bytes(1000))
    assert cache.prune(3 * size) == ()


def test_pruning_deletes_what_killed_writers_left(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    for name in ("long-ago", "at-work"):
        (tmp_path / "staging" / name).mkdir()
        (tmp_path / "staging" / name / "kernel.cubin").write_bytes(b"half")
    os.utime(tmp_path / "staging" / "long-ago", (0, 0))
    cache.prune()
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["at-work"]


def test_a_folder_that_takes_no_entry_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    (tmp_path / "kernels" / KEY[:2]).write_text("in the way")
    with pytest.raises(CacheUnusable):
        cache.store(KEY, {}, FILES)


def test_folders_are_private(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path / "cache")
    cache.store(KEY, {}, FILES)
    folders = [cache.folder, *(path for path in cache.folder.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(CacheUnusable, match="other users may write to it"):
        KernelCache(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheUnusable) as caught:
        KernelCache(tmp_path / "cache")
    assert "ESPER_CACHE_DIR" in caught.value.help_text


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "chosen"))
    assert KernelCache().folder == tmp_path / "chosen"


def writer(folder: Path, turns: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(turns)], env=child_environment())


def test_racing_processes_leave_whole_entries(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 12) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_killed_writer_leaves_no_half_entry(tmp_path: Path) -> None:
    for delay_s in (0.05, 0.08, 0.11, 0.14):
        process = writer(tmp_path, 10_000)
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert writer(tmp_path, 2).wait(60) == 0
