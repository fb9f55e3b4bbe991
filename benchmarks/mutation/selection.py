"""Which tests can see a mutant: those that ran its line, by one recorded run of the suite with coverage.

Tests that ran little else but the mutant's file come first, so that a run that stops at the first failure is
short; the quickest follow, among them tables of all operators. A line that runs only when its module is
imported, as a table's does, is seen by all that use the file.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

from benchmarks.mutation.mutants import Mutant


@dataclass(frozen=True)
class Recording:
    """Tests by the lines of each file that they ran; seconds for each test that passed."""

    lines: dict[str, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    @staticmethod
    def read(tree: Path, database: Path, junit: Path) -> Recording:
        """From the coverage data and the JUnit report of a run in `tree`."""
        seconds: dict[str, float] = {}
        for case in ElementTree.parse(junit).iter("testcase"):
            if len(case) == 0 or case[0].tag == "properties":
                path = case.attrib["classname"].replace(".", "/")
                seconds[f"{path}.py::{case.attrib['name']}"] = float(case.attrib["time"])
        data = CoverageData(str(database))
        data.read()
        lines: dict[str, dict[int, frozenset[str]]] = {}
        for file in data.measured_files():
            contexts = data.contexts_by_lineno(file)
            lines[str(Path(file).relative_to(tree.resolve()))] = {
                line: frozenset(context.rpartition("|")[0] for context in found) & seconds.keys()
                for line, found in contexts.items()
                if line > 0
            }
        return Recording(lines, seconds)

    def tests_for(self, mutant: Mutant, budget_s: float) -> list[str]:
        """The tests to run, the likeliest for half of `budget_s` seconds, then the quickest."""
        lines = self.lines.get(mutant.file, {})
        seen = _union(lines, mutant.line, mutant.end_line)
        if not seen and mutant.function is not None:
            seen = _union(lines, *mutant.function)
        if not seen and mutant.function is None:
            seen = frozenset().union(*lines.values())
        inside = Counter(test for found in lines.values() for test in found)
        outside = Counter(
            test for found in self.lines.values() for tests in found.values() for test in tests & seen
        )
        ranked = sorted(seen, key=lambda test: (-inside[test] / outside[test], self.seconds[test], test))
        likeliest = self._within(ranked, budget_s / 2)
        quickest = sorted(seen.difference(likeliest), key=lambda test: (self.seconds[test], test))
        return likeliest + self._within(quickest, budget_s / 2)

    def _within(self, tests: list[str], budget_s: float) -> list[str]:
        """The first of `tests` that take `budget_s` seconds together, and one at least."""
        chosen: list[str] = []
        for test in tests:
            budget_s -= self.seconds[test]
            if budget_s < 0 and chosen:
                break
            chosen.append(test)
        return chosen


def _union(lines: dict[int, frozenset[str]], first: int, last: int) -> frozenset[str]:
    return frozenset().union(*(lines.get(line, frozenset()) for line in range(first, last + 1)))
