"""`esperc search --report`: one file that holds the front, the best, and what bounds cut."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from esper.cli.esperc import main
from esper.cli.search_chart import _Scale

GIVEN = ("mobilenet_block", "--objective", "balanced", "--trials", "24")
BOUNDS = ("--constraint", "params<=30000", "--constraint", "memory_mb<=100")


class Reader(HTMLParser):
    """The elements of a page, with their attributes; fails where one is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def dots(self, css: str) -> int:
        """How many candidates are drawn so; the legend's marks have a radius of 4."""
        return sum(
            tag == "circle" and attrs.get("class") == css and attrs.get("r") != "4"
            for tag, attrs in self.found
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    path = tmp_path_factory.mktemp("report") / "found.html"
    result = CliRunner().invoke(main, ["search", *GIVEN, *BOUNDS, "--report", str(path), "--json"])
    assert result.exit_code == 0 and f"wrote {path}" in result.stderr
    return path.read_text("utf-8"), json.loads(result.stdout)


def test_it_is_one_well_formed_file_that_loads_nothing(made: tuple[str, dict[str, object]]) -> None:
    text, _ = made
    reader = Reader()
    reader.feed(text)
    assert reader.opened == []
    assert not {tag for tag, _ in reader.found} & {"script", "link", "img", "iframe"}
    assert "http" not in text and "url(" not in text


def test_the_front_is_drawn_and_the_best_are_numbered_and_listed(made: tuple[str, dict[str, object]]) -> None:
    text, document = made
    front, top = document["front"], document["top"]
    assert isinstance(front, list) and isinstance(top, list)
    reader = Reader()
    reader.feed(text)
    assert reader.dots("c1") == len(front)
    assert '">1</text>' in text
    rows = re.findall(r'<tr><td class="number">(\d+)</td>', text)
    assert rows == [str(place) for place in range(1, len(top) + 1)]


def test_what_each_bound_cut_is_counted(made: tuple[str, dict[str, object]]) -> None:
    text, document = made
    rows = re.findall(r"<td>(\w+)&lt;=\d+</td><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td>", text)
    assert {name: int(count) for name, count, _ in rows} == {"params": 12, "memory_mb": 14}
    assert {int(count) for *_, count in rows} == {document["trials"]}


def test_the_advice_to_ask_for_more_keeps_to_the_bounds() -> None:
    page = CliRunner().invoke(main, ["search", *GIVEN, *BOUNDS]).stdout
    (asked,) = re.findall(r"add --constraint 'params>=(\d+)'", page)
    assert int(asked) <= 30000


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "found.html"
    result = CliRunner().invoke(main, ["search", "mlp_block", "--report", str(path)])
    assert result.exit_code == 1 and "error[E0002]" in result.stderr


@given(st.lists(st.floats(1e-4, 1e9), min_size=1, max_size=6))
def test_every_tick_of_an_axis_lies_within_it_and_says_its_figure(figures: list[float]) -> None:
    scale = _Scale.of(figures)
    low, high = scale.range
    assert all(low <= scale.at(figure) <= high for figure in figures)
    for place, shown in scale.ticks():
        value = 10**place if scale.is_log else place
        assert low <= place <= high
        assert math.isclose(float(shown.replace(",", "")), value, rel_tol=1e-4, abs_tol=1e-9)
