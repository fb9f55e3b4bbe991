"""What slots, seeds and blueprints may be called: names that files, reports and Python text all can carry."""

from __future__ import annotations

import re

from esper.errors import WrongArgument

SLOT_NAME = r"[^\x00-\x1f\x7f]+"
"""A module's path: whatever PyTorch takes, but for control characters."""
BLUEPRINT_NAME = r"""[^\x00-\x1f\x7f"'`\\]{1,200}"""
"""A line of text that needs no escaping anywhere."""


def check_name(argument: str, name: object, pattern: str) -> None:
    """Raises WrongArgument unless `name` is a text that `pattern` matches as a whole."""
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        expected = "a line of text without quotes, backslashes and control characters, of 1 to 200 characters"
        if pattern == SLOT_NAME:
            expected = "a module's name without control characters"
        raise WrongArgument(argument=argument, found=repr(name)[:80], expected=expected)
