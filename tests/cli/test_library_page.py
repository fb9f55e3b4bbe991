"""docs/library.md is what the sources of the library say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import esper
from esper.cli.library_page import page
from esper.lang import library

PATH = Path(__file__).resolve().parent.parent.parent / "docs" / "library.md"


@pytest.fixture(scope="module")
def text() -> str:
    return page()


def test_the_page_of_the_library_is_up_to_date(text: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PATH.write_text(text, encoding="utf-8")
    assert PATH.read_text(encoding="utf-8") == text, "docs/library.md is not what the sources say: make docs"


def test_the_page_has_every_blueprint_in_a_table_and_with_its_parameters(text: str) -> None:
    tables, sections = text.split("\n## Each of them\n")
    found = re.split(r"^### ", sections, flags=re.MULTILINE)[1:]
    assert [section.partition("\n")[0].strip("`") for section in found] == [e.name for e in library()]
    for entry, section in zip(library(), found, strict=True):
        assert tables.count(f"| [`{entry.name}`](#{entry.name}) | {entry.summary} |") == 1
        assert entry.signature.doc in section
        for info in entry.signature.parameters:
            assert f"| `{info.name}` | `{info.kind}` | " in section and f"| {info.doc} |" in section
        assert "- takes `" in section and "- returns `" in section


@pytest.mark.parametrize("name", ["attention", "film", "unet_up"])
def test_the_parameters_are_counted_as_torch_counts_them(name: str, text: str) -> None:
    section = text.split(f"### `{name}`\n")[1].partition("###")[0]
    seed = esper.compile(name)
    count = sum(parameter.numel() for parameter in seed.parameters())
    assert f"- {count:,} parameters; " in section
    shapes = [[int(size) for size in sizes.split(", ")] for sizes in re.findall(r"f32\[([\d, ]+)\]", section)]
    found = seed.eval()(*(torch.zeros([1, *shape[1:]]) for shape in shapes))
    assert found.isfinite().all()
