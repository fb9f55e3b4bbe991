"""How deep expressions nest, and the stack that walking them takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

MAX_NESTING = 1000
FRAMES_PER_LEVEL = 10


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Room on Python's stack for an expression of the greatest nesting. Python calls use no C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 2000 + FRAMES_PER_LEVEL * MAX_NESTING))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
