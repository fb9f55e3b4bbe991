"""Characters of Python's standard library: a text that every machine with Python has.

Files are dealt to the splits whole, so that no split holds a line that another continues; those of the last
split are the same whatever the seed. The text is that of
the Python that runs: another version gives other examples.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esper.simic.errors import DataMissing

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""Code i is `CHARACTERS[i]`; any other character has the code after the last."""
SHARES = (0.8, 0.1, 0.1)
"""Of the files, for each split."""


def encode(text: str) -> NDArray[np.int64]:
    """Each character's code: int64 [characters]."""
    table = np.full(129, len(CHARACTERS), dtype=np.int64)
    for code, character in enumerate(CHARACTERS):
        table[ord(character)] = code
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    codes: NDArray[np.int64] = table[np.minimum(points, len(table) - 1)]
    return codes


def decode(codes: Sequence[int]) -> str:
    """The characters of `codes`, with the replacement character for what has no code of its own."""
    return "".join((CHARACTERS + "\ufffd")[code] for code in codes)


def windows(seed: int, counts: tuple[int, int, int], length: int) -> list[NDArray[np.int64]]:
    """For each split, so many windows of `length` + 1 codes that do not overlap: int64 [count, length + 1].

    A window that two splits would have, such as the head of a licence, stays in the later one alone.
    Raises `DataMissing` where the standard library's sources are not installed, or are too few.
    """
    rng = np.random.default_rng(seed)
    sources = [path.read_text(encoding="utf-8", errors="replace") for path in _sources()]
    bounds = np.cumsum([round(share * len(sources)) for share in SHARES[:-1]])
    others, last = np.split(np.random.default_rng(0).permutation(len(sources)), bounds[-1:])
    dealt = [*np.split(rng.permutation(others), bounds[:-1]), last]
    found: list[NDArray[np.int64]] = []
    seen: set[bytes] = set()
    for part, count in zip(reversed(dealt), reversed(counts), strict=True):
        codes = np.concatenate([np.zeros(0, dtype=np.int64), *(encode(sources[index]) for index in part)])
        rows = codes[: len(codes) // (length + 1) * (length + 1)].reshape(-1, length + 1)
        rows = rows[[index for index, row in enumerate(rows) if row.tobytes() not in seen]]
        seen.update(row.tobytes() for row in rows)
        if len(rows) < count:
            raise DataMissing(
                task="text",
                missing=f"{count:,} windows of {length + 1} characters in the standard library's sources",
                way_out="install Python with its library's .py files, which some packages leave out",
            )
        found.append(rows[rng.permutation(len(rows))[:count]])
    return found[::-1]


def _sources() -> list[Path]:
    """The modules at the top of the standard library, by name."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
