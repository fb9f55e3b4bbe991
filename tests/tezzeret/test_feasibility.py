"""What is told where nothing fits: as few constraints as possible, and how near each can be come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from esper.tezzeret import Candidate, Constraint, Quantities
from esper.tezzeret.errors import ConstraintsContradict, NothingFeasible
from esper.tezzeret.evaluator import BoundFigure
from esper.tezzeret.feasibility import nothing_feasible

NAMES = ("params", "flops", "bytes", "memory")
FOUND = st.tuples(*[st.integers(0, 4)] * len(NAMES))
"""Figures of a candidate, each bounded by 0."""


def candidate(found: tuple[int, ...]) -> Candidate:
    bounds = [BoundFigure(Constraint(name, "<=", 0), one) for name, one in zip(NAMES, found, strict=False)]
    return Candidate({}, repr(found), Quantities(0, 0, 0, 0, 0.0), tuple(bounds))


def told(
    found: list[tuple[int, ...]], is_all: bool = True
) -> tuple[NothingFeasible | ConstraintsContradict, set[str]]:
    error = nothing_feasible("block", [candidate(one) for one in found], is_all)
    assert isinstance(error, NothingFeasible | ConstraintsContradict)
    return error, {name for name in NAMES if f"`{name}<=0`" in str(error)}


@given(st.lists(FOUND.filter(any), min_size=1, max_size=12))
def test_no_candidate_satisfies_what_is_named_and_some_does_without_any_one_of_it(
    found: list[tuple[int, ...]],
) -> None:
    error, named = told(found)
    places = [NAMES.index(name) for name in named]
    assert named and all(any(one[place] for place in places) for one in found)
    for given_up in places:
        rest = [place for place in places if place != given_up]
        reached = [one[given_up] for one in found if not any(one[place] for place in rest)]
        assert f"has {min(reached)}" in str(error) + error.help_text


@given(st.lists(FOUND.filter(lambda found: found[2] > 0), min_size=1, max_size=8))
def test_one_constraint_that_nothing_satisfies_is_told_alone(found: list[tuple[int, ...]]) -> None:
    error, named = told(found)
    assert isinstance(error, NothingFeasible) and len(named) == 1


def test_three_constraints_can_contradict_where_no_two_do() -> None:
    error, named = told([(7, 0, 0, 0), (0, 8, 0, 0), (0, 0, 9, 0), (1, 1, 1, 1)])
    assert isinstance(error, ConstraintsContradict) and named == {"params", "flops", "bytes"}
    assert str(error).startswith(
        "none of all 4 candidates of `block` satisfies `params<=0`, `flops<=0` and `bytes<=0` at once"
    )
    assert error.help_text == (
        "relax one of them: keeping the others, the nearest to `params<=0` has 7; "
        "the nearest to `flops<=0` has 8; the nearest to `bytes<=0` has 9"
    )


def test_more_points_are_advised_only_where_there_are_others() -> None:
    assert told([(1, 0, 0, 0)], is_all=False)[0].help_text.startswith("try more points, ")
    assert told([(1, 0, 0, 0)])[0].help_text.startswith("relax")


def test_a_constraint_that_only_some_candidates_have_is_satisfied_by_the_others() -> None:
    error, named = told([(0, 3, 0, 5), (2,)])
    assert isinstance(error, ConstraintsContradict) and len(named) == 2 and "params" in named
