"""A blueprint's parameters are keyword arguments of the Python face, so its own arguments are reserved."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import esper
from esper.kasmina.lifecycle.slot import SeedSlot
from esper.lang.keywords import KEYWORDS
from esper.lang.parameters import ARGUMENT_NAMES


@pytest.mark.parametrize("function", [esper.lower, esper.compile, SeedSlot.germinate])
def test_no_parameter_can_shadow_an_argument(function: Callable[..., Any]) -> None:
    arguments = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    taken = {argument.name for argument in arguments if argument.name.upper() not in KEYWORDS}
    assert taken <= ARGUMENT_NAMES
