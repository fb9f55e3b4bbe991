"""Several objectives at once: the front of what nothing surpasses, how much it dominates, and its knee.

Objectives are minimised. A vector dominates another if it is nowhere larger and somewhere smaller; the front
is what nothing dominates. A front's hypervolume is the volume between it and a reference point that all of it
lies below: the larger, the better the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
"""One figure for each objective, to be minimised."""


def dominates(one: Vector, other: Vector) -> bool:
    """Whether `one` is nowhere larger than `other` and somewhere smaller."""
    return tuple(one) != tuple(other) and all(a <= b for a, b in zip(one, other, strict=True))


def front(vectors: Sequence[Vector]) -> list[int]:
    """Indices of the vectors that nothing dominates, in their order; the first of equal ones alone."""
    found: list[int] = []
    # In lexicographic order nothing is dominated by what comes after it.
    for index in sorted(range(len(vectors)), key=lambda index: (*vectors[index], index)):
        vector = vectors[index]
        if not any(all(a <= b for a, b in zip(vectors[kept], vector, strict=True)) for kept in found):
            found.append(index)
    return sorted(found)


def hypervolume(vectors: Sequence[Vector], reference: Vector) -> float:
    """The volume that `vectors` dominate below `reference`: exact, for any number of objectives.

    What does not lie below the reference adds nothing. By exclusive volumes, each vector's in turn less what
    those after it dominate of it (While, Bradstreet and Barone 2012, the WFG algorithm): in two objectives
    O(n log n), in more exponential at worst, milliseconds for fronts of some hundred vectors in three.
    """
    inside = [tuple(v) for v in vectors if all(a < r for a, r in zip(v, reference, strict=True))]
    return _volume([inside[index] for index in front(inside)], tuple(reference))


def _volume(vectors: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """The hypervolume of a front inside the box."""
    if len(reference) == 1:
        return max((reference[0] - vector[0] for vector in vectors), default=0.0)
    if len(reference) == 2:
        return _area(vectors, reference)
    # With the last objective falling, what a vector is limited to has one objective less to differ in.
    ordered = sorted(vectors, key=lambda vector: vector[-1], reverse=True)
    total = 0.0
    for index, vector in enumerate(ordered):
        height = reference[-1] - vector[-1]
        base = math.prod(r - a for a, r in zip(vector[:-1], reference[:-1], strict=True))
        limited = [tuple(map(max, other[:-1], vector[:-1])) for other in ordered[index + 1 :]]
        covered = _volume([limited[kept] for kept in front(limited)], reference[:-1])
        total += height * (base - covered)
    return total


def _area(vectors: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    total, ceiling = 0.0, reference[1]
    for x, y in sorted(vectors):
        total += (reference[0] - x) * (ceiling - y)
        ceiling = y
    return total


def knee(vectors: Sequence[Vector]) -> int:
    """The index of the vector where any gain in one objective costs most in the others; the first of equals.

    It is the one farthest below the line, or plane, through the extremes of the front (Das 1999, "On
    characterizing the knee of the Pareto curve"). `vectors`: a front, not empty.
    """
    heights = rises(vectors, vectors)
    return min(range(len(vectors)), key=heights.__getitem__)


def rises(vectors: Sequence[Vector], front: Sequence[Vector]) -> list[float]:
    """How high each of `vectors` lies, in the direction in which everything gets worse.

    That is Σx with each objective scaled to [0, 1] over `front`: in two objectives its extremes are at 1.
    Objectives that are equal all over the front do not count.
    """
    lows = [min(column) for column in zip(*front, strict=True)]
    spans = [max(column) - low for column, low in zip(zip(*front, strict=True), lows, strict=True)]
    return [
        sum((a - low) / span for a, low, span in zip(vector, lows, spans, strict=True) if span > 0)
        for vector in vectors
    ]
