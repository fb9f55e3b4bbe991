"""Guessing what a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is like it at all; case does not count."""
    names = sorted(set(known))
    by_case = {known_name.lower(): known_name for known_name in names}
    found = get_close_matches(name[:100].lower(), by_case, n=1, cutoff=0.6)
    return by_case[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A question that names the closest known name, or `otherwise`."""
    found = closest(name, known)
    return f"did you mean `{found}`?" if found else otherwise
