"""Guessing what a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

MAX_KNOWN = 200


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like `name`, if any is like it at all; case does not count.

    cutoff: how much of both names must agree, from 0 to 1. Looks at the first `MAX_KNOWN` names only, so
    that many errors among many names take bounded time.
    """
    by_case = {candidate.lower(): candidate for candidate in islice(known, MAX_KNOWN)}
    found = get_close_matches(name[:100].lower(), by_case, n=1, cutoff=cutoff)
    return by_case[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A question that names the closest known name, or `otherwise`."""
    found = closest(name, known)
    return f"did you mean `{found}`?" if found else otherwise
