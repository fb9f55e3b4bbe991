"""Points of a space: counted, drawn, changed and crossed without ever leaving it."""

from __future__ import annotations

import itertools
import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.lang import BlueprintRejected, Interval, ParameterValue, load
from esper.tezzeret.errors import EmptyDomain, EndlessSpace, NothingToChoose, OutsideSpace
from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.space import Space, space_of
from esper.tezzeret.space.domains import rank

CONDITIONAL = """
blueprint conditional(
    width: dim = 8 in {4, 8},
    rank: int = 2 in {1, 2, 4},
    mult: int = 1 in 1..width // 4,
    deep: bool = false in {false, true},
    extra: int = 1 in {1, 2, 3},
    depth: int = 1 in 0..2,
    act: op = relu in {relu, gelu},
) {
    let hidden = width * mult
    let inner = hidden * extra
    input x: f32[N, width]
    h = choice kind {
        plain => linear(x, hidden),
        low => x |> linear(rank) |> linear(hidden),
        gated => choice gate {
            sig => linear(x, hidden) * sigmoid(linear(x, hidden)),
            tan => tanh(linear(x, hidden)),
        },
    }
    if deep {
        h = h |> linear(inner) |> linear(hidden)
    }
    repeat depth { h = act(h) }
    output linear(h, width) + x
}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "block.esp"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return Evaluator(written(tmp_path_factory.mktemp("space"), CONDITIONAL))


def test_a_parameter_of_a_branch_that_is_not_taken_is_no_choice(conditional: Evaluator) -> None:
    space = conditional.space
    kinds = 1 + 3 + 2  # plain, low by rank, gated by gate
    mults = 1 + 2  # of width 4, and of 8
    assert space.size == kinds * mults * (1 + 3) * (1 + 2 * 2)
    points = list(space.points())
    assert len(points) == space.size == len(set(map(space.encode, points)))
    assert all(point["rank"] == 2 for point in points if point["kind"] != "low")


def test_each_point_is_another_graph_and_none_is_lost(conditional: Evaluator) -> None:
    space = conditional.space
    some: dict[str, tuple[ParameterValue, ...]] = {
        "rank": (1, 2),
        "extra": (1, 3),
        "depth": (0, 1),
        "act": ("relu", "gelu"),
    }
    chosen = [p for p in space.points() if all(p[name] in values for name, values in some.items())]
    hashes = [conditional(point).ir_hash for point in chosen]
    assert len(set(hashes)) == len(hashes)
    whole = set()
    domains = {name: domain for name, domain in space.domains.items() if isinstance(domain, tuple)}
    for values in itertools.product(*(domains | some).values()):
        try:
            whole.add(conditional(dict(zip(space.domains, values, strict=True))).ir_hash)
        except BlueprintRejected:
            assert values[0] == 4 and values[2] == 2  # outside of 1..width // 4
    assert whole == set(hashes)


def test_what_the_default_of_another_parameter_reads_decides_too(tmp_path: Path) -> None:
    space = Evaluator(
        written(
            tmp_path,
            "blueprint derived("
            "depth: int = 0 in {0, 1, 2}, turns: int = 2 * depth, width: dim = 8 in {8, 16}) {\n"
            "    input x: f32[N, 8]\n    h = x\n"
            "    repeat turns { h = h |> linear(width) |> linear(8) }\n    output h\n}\n",
        )
    ).space
    found = [(point["depth"], point["width"]) for point in space.points()]
    assert found == [(0, 8), (1, 8), (1, 16), (2, 8), (2, 16)]
    assert space.size == 5


def test_parameters_decide_in_their_order_so_that_equal_seeds_draw_equal_points(tmp_path: Path) -> None:
    names = [f"p{n}" for n in range(8)]
    listed = ", ".join(f"{name}: int = 1 in {{1, 2}}" for name in names)
    total = " + ".join(names)
    space = Evaluator(
        written(
            tmp_path,
            f"blueprint many({listed}, k: int = 1 in 1..{total}, w: int = 1 in {{1, 2}}) {{\n"
            f"    let a = {total}\n    let b = a * 2\n    input x: f32[N, 8]\n"
            "    if b > 20 { x = linear(x, 8 * w) }\n    output linear(x, k)\n}\n",
        )
    ).space
    assert space.conditions is not None
    assert space.conditions.deciders("k") == tuple(names)
    assert space.conditions.deciders("w") == tuple(names)


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_changes_of_points_stay_in_the_space_and_change_something(conditional: Evaluator, seed: int) -> None:
    space, rng = conditional.space, random.Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    mutated, crossed = space.mutated(a, rng), space.crossed(a, b, rng)
    near = list(space.neighbours(a))
    for point in (a, b, mutated, crossed, *near):
        assert point in space
        assert space.settled(point) == point
        assert space.decode(space.encode(point)) == point
    assert mutated != a and a not in near
    assert all(crossed[name] in (a[name], b[name]) for name in ("width", "deep", "depth", "kind"))


def test_points_are_drawn_evenly_whatever_their_branches(conditional: Evaluator) -> None:
    rng = random.Random(0)
    drawn = [conditional.space.sample(rng) for _ in range(1200)]
    assert sum(point["kind"] == "low" for point in drawn) == pytest.approx(600, abs=80)
    assert sum(point["depth"] == 0 for point in drawn) == pytest.approx(240, abs=60)


def test_what_matters_nowhere_does_not_tell_points_apart(conditional: Evaluator) -> None:
    space = conditional.space
    point = {**space.sample(random.Random(1)), "kind": "plain", "rank": 1}
    assert space.encode(point) == space.encode({**point, "rank": 4})
    assert {**point, "rank": 3} in space


def test_a_domain_is_that_of_the_values_which_are_fixed(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "blueprint block(width: dim = 8, mult: int = 1 in 1..width // 4) {"
        " input x: f32[N, width] output linear(x, mult) }",
    )
    assert space_of(load(path), {}).domains == {"mult": (1, 2)}
    assert space_of(load(path), {"width": 16}).domains == {"mult": (1, 2, 3, 4)}
    with pytest.raises(EmptyDomain, match="`mult` may be nothing at all with width = 2"):
        space_of(load(path), {"width": 2})


def test_an_endless_space_is_not_listed_and_says_what_makes_it_so() -> None:
    space = Space({"n": (1, 2), "rate": Interval(0.0, 0.5)})
    assert space.size is None and space.bound == math.inf
    with pytest.raises(EndlessSpace, match=r"`rate` may be any number in 0\.0\.\.0\.5"):
        space.points()


def test_a_space_of_one_point_has_no_other(tmp_path: Path) -> None:
    space = Space({"n": (1,)})
    rng = random.Random(0)
    assert space.mutated({"n": 1}, rng) == {"n": 1} and not list(space.neighbours({"n": 1}))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"n": 3}', '{"n": true}', '{"n": 1.0}', '{"n": 1, "m": 1}']
)
def test_what_is_no_point_is_not_decoded(text: str) -> None:
    with pytest.raises(OutsideSpace):
        Space({"n": (1, 2)}).decode(text)


def test_what_no_parameter_may_be_is_no_point_of_a_space_with_branches(conditional: Evaluator) -> None:
    text = conditional.space.encode(conditional.space.sample(random.Random(0)))
    for value in ("[1]", "{}", "null", "2.0"):
        with pytest.raises(OutsideSpace):
            conditional.space.decode(re.sub(r'"width": \d', f'"width": {value}', text))


@given(st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=20)
def test_points_of_a_sample_differ(count: int, seed: int) -> None:
    space = space_of(load("depthwise"), {})
    points = space.samples(count, random.Random(seed))
    assert space.size is not None
    assert len(points) == min(count, space.size)
    assert len(set(map(space.encode, points))) == len(points)
    assert points == space.samples(count, random.Random(seed))


def test_intervals_are_drawn_from_evenly_or_by_magnitude() -> None:
    space = Space({"p": Interval(0.0, 0.5), "q": Interval(1e-4, 1.0, is_log=True), "r": (1, 2)})
    points = space.samples(400, random.Random(0))
    assert points == space.samples(400, random.Random(0))
    p, q = ([float(point[name]) for point in points] for name in ("p", "q"))
    assert all(0.0 <= value <= 0.5 for value in p) and all(1e-4 <= value <= 1.0 for value in q)
    assert sum(value < 0.25 for value in p) == pytest.approx(200, abs=45)
    assert sum(value < 1e-2 for value in q) == pytest.approx(200, abs=45)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.7e308, 1.7e308),
        (5e-324, 1.7e308),
        (0.0, 5e-324),
        (5e-324, 1e-323),
        (1e300, math.nextafter(1e300, math.inf)),
    ],
)
def test_an_interval_may_be_as_wide_or_as_narrow_as_floats_are(low: float, high: float, is_log: bool) -> None:
    if is_log and low <= 0:
        return
    space, rng = Space({"p": Interval(low, high, is_log)}), random.Random(0)
    for _ in range(50):
        point = space.sample(rng)
        mutated = space.mutated(point, rng)
        assert point in space and mutated in space and mutated != point
        assert all(other in space and other != point for other in space.neighbours(point))
    if high == 1.7e308:
        drawn = [float(point["p"]) for point in space.samples(200, rng)]
        assert sum(value < (1.0 if is_log else low / 2 + high / 2) for value in drawn) == pytest.approx(
            100, abs=32
        )


def test_a_domain_that_the_language_refuses_is_told_as_it_tells_it(tmp_path: Path) -> None:
    text = "blueprint b(k: int = 5 in 1..1000000000000) { input x: f32[N, 8] output linear(x, k) }"
    with pytest.raises(BlueprintRejected, match="a range of 1000000000000 values"):
        space_of(load(written(tmp_path, text)), {})


def test_a_blueprint_without_domains_has_nothing_to_choose() -> None:
    with pytest.raises(NothingToChoose):
        space_of(load("norm"), {})


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_equal_values_of_other_types_have_no_rank_among_each_other(value: object) -> None:
    domains = {int: (2, 1, 3), float: (2.0, 1.0, 3.0), bool: (True, False)}
    for kind, domain in domains.items():
        expected = 0 if kind is type(value) and kind is not bool else None
        assert rank(domain, value) == expected  # type: ignore[arg-type]
