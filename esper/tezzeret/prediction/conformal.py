"""Intervals that hold for a family of blueprints that was never measured.

Scores of one family are alike, so they are no independent sample; exchangeable are the families. Each
family's scores have one share of the weight together, the unseen one an equal share at infinity, and the
quantile of that mixture is the bound (pooled as by Dunn, Wasserman & Ramdas 2022, "Distribution-free
prediction sets for two-layer hierarchical models", arXiv:1809.07441). Scores come from fits that left the
score's own family out, as in the CV+ of Barber et al. 2021 (arXiv:1905.02928).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def least_families(level: float) -> int:
    """So many families are needed for a finite bound at `level`."""
    return math.ceil(level / (1 - level) - 1e-9)


def bound(scores: Sequence[tuple[str, float]], level: float) -> float:
    """What a score of a further family does not exceed with probability `level`.

    scores: of families, by name. Infinite where there are too few families to tell.
    """
    sizes = Counter(family for family, _ in scores)
    share = 1 / (len(sizes) + 1)
    reached = 0.0
    for family, score in sorted(scores, key=lambda one: one[1]):
        reached += share / sizes[family]
        if reached >= level - 1e-12:
            return score
    return math.inf
