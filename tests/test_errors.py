"""The root error: what every kind of error can rely on."""

from __future__ import annotations

import pickle
import pkgutil
import re
from importlib import import_module

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


def kinds(root: type[EsperError]) -> list[type[EsperError]]:
    below = root.__subclasses__()
    return below + [kind for child in below for kind in kinds(child)]


def test_every_code_is_well_formed_and_belongs_to_one_kind() -> None:
    for module in pkgutil.walk_packages(esper.__path__[:1], "esper."):
        if module.name.endswith(".errors"):
            import_module(module.name)
    owner: dict[str, type[EsperError]] = {}
    for kind in kinds(EsperError):
        if not kind.__module__.startswith("esper."):
            continue
        assert re.fullmatch(r"E\d{4}", kind.code), kind
        assert owner.setdefault(kind.code, kind) is kind, f"{kind} and {owner[kind.code]} share {kind.code}"
        assert kind.exit_code in {1, 3}, kind
