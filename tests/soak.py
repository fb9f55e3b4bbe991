"""A pytest plugin for long runs that go on where they were killed: `make soak`.

Each test that passes is written down with a digest of all sources, and is skipped by later runs on the same
sources. The laws of passes come first. A failure is kept in a file of its own, with its falsifying example,
and runs again next time. The record is `.soak/`, which git ignores; `rm -r .soak` forgets it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

SOURCES = {"esper": "*.py", "kernels": "*.py", "tests": "*.py", "grammar": "*.lark", "blueprints": "*.esp"}
FIRST = ("tests/passes/", "tests/ir/", "tests/ops/", "tests/testing/")


def digest(root: Path) -> str:
    """Of all sources and tests under `root`: paths and contents."""
    found = hashlib.sha256()
    for folder, pattern in SOURCES.items():
        for path in sorted((root / folder).rglob(pattern)):
            found.update(f"{path.relative_to(root).as_posix()}\0".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


class Record:
    """The tests that passed on sources of one digest: lines of JSON, one for each test."""

    def __init__(self, folder: Path, sources: str) -> None:
        self.folder = folder
        self._file = folder / "passed.jsonl"
        self._sources = sources

    def passed(self) -> set[str]:
        """A line that was cut short by a kill counts for nothing."""
        found = set()
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry["sources"] == self._sources:
                found.add(entry["test"])
        return found

    def add(self, test: str, seconds: float) -> None:
        self.folder.mkdir(exist_ok=True)
        line = json.dumps({"sources": self._sources, "test": test, "seconds": round(seconds, 1)})
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # the first newline ends a line that a kill cut short

    def keep_failure(self, test: str, text: str) -> Path:
        path = self.folder / "failures" / (re.sub(r"[^\w.-]+", "-", test).strip("-")[:150] + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{test}\n\n{text}\n", encoding="utf-8")
        return path


def in_order(tests: Iterable[str]) -> list[str]:
    """The laws of passes, then the rest of what is about the IR, then all others; else as they were."""

    def rank(test: str) -> tuple[bool, int]:
        known = [index for index, folder in enumerate(FIRST) if test.startswith(folder)]
        return not test.startswith("tests/passes/test_laws.py"), known[0] if known else len(FIRST)

    return sorted(tests, key=rank)


class Soak:
    """Skips what passed, writes down what passes, and tells how far the run is."""

    def __init__(self, config: pytest.Config, record: Record) -> None:
        self._record = record
        self._writes = not hasattr(config, "workerinput")  # under xdist, the process that starts the others
        self._plugins = config.pluginmanager
        self._failures: dict[str, Path] = {}
        self._total = self._done = 0
        self._passed_before = record.passed()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        done = [item for item in items if item.nodeid in self._passed_before]
        left = {item.nodeid: item for item in items if item.nodeid not in self._passed_before}
        config.hook.pytest_deselected(items=done)
        items[:] = [left[test] for test in in_order(left)]
        self._total = len(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._total = len(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._writes or (report.when != "call" and not report.failed):
            return
        self._done += 1
        if report.passed:
            self._record.add(report.nodeid, report.duration)
        elif report.failed:
            self._failures[report.nodeid] = self._record.keep_failure(report.nodeid, report.longreprtext)
        self._tell(
            f"[{self._done}/{self._total}] {report.outcome} in {report.duration:.0f} s: {report.nodeid}"
        )

    def pytest_terminal_summary(self) -> None:
        before = len(self._passed_before)
        self._tell(
            f"soak: {self._done} of {self._total} ran, {len(self._failures)} failed; {before} passed before"
        )
        for test, path in self._failures.items():
            self._tell(f"soak: {test}: {path}")

    def _tell(self, text: str) -> None:
        reporter = self._plugins.get_plugin("terminalreporter")
        if self._writes and reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(text)


def pytest_configure(config: pytest.Config) -> None:
    root = config.rootpath
    config.pluginmanager.register(Soak(config, Record(root / ".soak", digest(root))), "soak")
