"""How much of a volume points may add to what others dominate, for any number of objectives (SMS-EGO).

What is worth evaluating is what adds most by the better end of what is expected of it (Ponweiser et al. 2008,
"Multiobjective optimization on a limited budget of evaluations using model-assisted S-metric selection").
A hypervolume is a mean over directions: of how far each leads from the reference until nothing is dominated
any more, to the power of the objectives (Golovin and Zhang 2020, "Random hypervolume scalarizations for
provable multi-objective black box optimization"). So many vectors are compared with a whole front at once.
"""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
"""[vectors, objectives], to be minimised."""

DIRECTIONS = 256
"""Over which a mean is taken, drawn each time."""
BEYOND = 0.1
"""How far behind the worst that was told the reference lies, where each objective reaches from 0 to 1."""


def most_gained(promised: Vectors, told: Vectors, rng: random.Random) -> int:
    """The index of what adds most to the volume that `told` dominates; the first of equals.

    Each objective is scaled to what was told. Where none adds anything it is what lacks least: what has to
    get better by the least in all objectives, until nothing told dominates it.
    """
    low, high = told.min(0), told.max(0)
    span = np.where(high > low, high - low, 1.0)
    ahead, known = (promised - low) / span, (told - low) / span
    gains = volume_gains(ahead, known, 1 + BEYOND, directions(DIRECTIONS, told.shape[1], rng))
    if gains.max() > 0:
        return int(gains.argmax())
    return int(lacks(ahead, known).argmin())


def volume_gains(vectors: Vectors, known: Vectors, reference: float, along: Vectors) -> Vectors:
    """Of each vector, what it alone adds to the volume that `known` dominates below `reference`: [vectors].

    reference: of every objective. along: `directions`; the more there are, the closer it is.
    """
    count = known.shape[1]
    behind = _reach(known, reference, along).max(0)
    gains = np.maximum(_reach(vectors, reference, along) ** count - behind**count, 0.0)
    unit: float = math.pi ** (count / 2) / (2**count * math.gamma(count / 2 + 1))
    found: Vectors = unit * gains.mean(1)
    return found


def lacks(vectors: Vectors, known: Vectors) -> Vectors:
    """By how much each has to get better in all objectives until none of `known` dominates it: [vectors]."""
    found: Vectors = (vectors[:, None, :] - known[None, :, :]).min(2).max(1)
    return found


def directions(count: int, objectives: int, rng: random.Random) -> Vectors:
    """[count, objectives]: uniform among those of length 1 that are nowhere negative."""
    normal = np.random.default_rng(rng.getrandbits(64)).normal(size=(count, objectives))
    found = np.maximum(np.abs(normal), 1e-9)
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _reach(vectors: Vectors, reference: float, along: Vectors) -> Vectors:
    """How far each direction leads inside what each vector dominates: [vectors, directions]."""
    below = reference - vectors
    # A column at a time, so that nothing is as large as vectors times directions times objectives.
    nearest = below[:, :1] / along[:, 0]
    for objective in range(1, below.shape[1]):
        np.minimum(nearest, below[:, objective, None] / along[:, objective], out=nearest)
    found: Vectors = np.maximum(nearest, 0.0)
    return found
