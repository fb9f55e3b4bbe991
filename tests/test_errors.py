"""The root error: what every kind of error can rely on."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import esper
from esper.errors import EsperError, MissingPackage, Span

SPAN = Span("a.esp", 1, 2, 1, 5)


class UnknownColour(EsperError):
    """An error of this test's own, with every part that a kind of error has."""

    code = "E9999"
    message = "unknown colour `{name}`"
    help = "did you mean `{suggestion}`?"


def test_message_and_help_are_made_from_the_details() -> None:
    error = UnknownColour(name="gren", suggestion="green", span=SPAN)
    assert str(error) == "unknown colour `gren`"
    assert error.help_text == "did you mean `green`?"
    assert (error.code, error.span, error.exit_code) == ("E9999", SPAN, 1)


def test_a_way_out_that_is_not_known_is_left_out() -> None:
    assert UnknownColour(name="gren").help_text == ""
    assert UnknownColour(name="gren", suggestion=None).help_text == ""


def test_an_error_survives_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(UnknownColour(name="gren", suggestion="green", span=SPAN)))
    assert type(error) is UnknownColour
    assert (str(error), error.help_text, error.span) == (
        "unknown colour `gren`",
        "did you mean `green`?",
        SPAN,
    )


def test_a_missing_package_names_the_extra_and_exits_with_3() -> None:
    error = MissingPackage(package="yaml", purpose="esper train", extra="growth")
    assert error.help_text == "pip install 'esper-toolchain[growth]'"
    assert error.exit_code == 3


def test_every_code_belongs_to_one_kind_of_error() -> None:
    declared = re.compile(
        r"^class (\w+)\((?:(?!^class ).)*?^    code = \"([EW]\d{4})\"$", re.MULTILINE | re.DOTALL
    )
    owners: dict[str, list[str]] = {}
    for path in sorted(Path(esper.__file__).parent.rglob("*.py")):
        for name, code in declared.findall(path.read_text(encoding="utf-8")):
            owners.setdefault(code, []).append(f"{name} in {path}")
    assert len(owners) > 50
    shared = {code: names for code, names in owners.items() if len(names) > 1}
    assert not shared
