"""Successive halving: who climbs, what it costs, what algorithms are told, and that no kill changes it."""

from __future__ import annotations

import hashlib
import itertools
import math
import pickle
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.errors import EsperError, WrongArgument
from esper.ir.graph import BlueprintIR
from esper.tezzeret import (
    Candidate,
    Evaluator,
    Ladder,
    Plan,
    Progress,
    Quantities,
    SearchResult,
    Stop,
    ladder_of,
    open_store,
    parse_constraint,
    question,
    run_search,
)
from esper.tezzeret.algorithms import ALGORITHMS, Outcome, RandomSearch
from esper.tezzeret.errors import AccuracyUnjudged, NothingValid
from esper.tezzeret.evaluation import Evaluation, Refusal, from_json, outcome_of, to_json
from esper.tezzeret.fidelity import Learned, Rung
from esper.tezzeret.ladder import Climbing, Halving, Step, key_of
from esper.tezzeret.objectives import JUDGED_OBJECTIVES
from esper.tezzeret.pareto import front
from esper.tezzeret.space import Point, Space

STEPS = 90
BLUEPRINT = """blueprint climbed(
    width: int = 8 in {1, 2, 4, 8, 16, 32, 64},
    hidden: int = 8 in {1, 2, 4, 8, 16, 32, 64},
    act: op = relu in {relu, gelu},
) {
    require width != 16 or hidden != 16: "this test refuses it"
    input x: f32[N, 8]
    let even = (width + 1) // 2 * 2
    h = x |> linear(even) |> act()
    if width > 2 { h = h |> linear(hidden) }
    output linear(h, 8)
}
"""


def share(*parts: object) -> float:
    """A number in 0..1 that depends on nothing but the parts."""
    text = "/".join(map(str, parts))
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


@dataclass(frozen=True)
class Told:
    accuracy: float
    flops: int


@dataclass
class Written:
    """A judge whose accuracies are a function of graph, steps and seed: the longer, the nearer the truth."""

    refused: int = 0
    """One graph in so many does not fit."""
    tried: list[tuple[str, int, int]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Whose gradients were asked for."""

    def accuracy(self, blueprint: BlueprintIR | None, steps: int, seed: int, /) -> Told:
        if blueprint is None:
            return Told(share(steps, seed), steps)
        self.tried.append((blueprint.hash, steps, seed))
        if self.refused and int(blueprint.hash[:8], 16) % self.refused == 0:
            raise WrongArgument(argument="blueprint", found="this one", expected="another")
        noise = share(blueprint.hash, steps, seed) / (1 + steps)
        return Told(0.9 * share(blueprint.hash) + noise, steps)

    def gradients(
        self, blueprint: BlueprintIR | None, seed: int, batches: int, /
    ) -> list[list[torch.Tensor]]:
        """The better a graph is in truth, the less they vary."""
        assert blueprint is not None
        self.seen.append(blueprint.hash)
        spread = 1.1 - share(blueprint.hash)
        return [[torch.tensor([[1.0 + spread * (-1) ** batch]]).double()] for batch in range(batches)]


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    path = tmp_path / "climbed.esp"
    path.write_text(BLUEPRINT)
    return Evaluator(path)


def on(judge: Written, cohort: int = 27) -> Ladder:
    return replace(ladder_of(judge, STEPS, 0), cohort=cohort)


def climbed(
    evaluator: Evaluator, judge: Written | None = None, cohort: int = 27, **plan: Any
) -> tuple[SearchResult, Written]:
    judge = judge or Written()
    asked = Plan(**{"objective": "accuracy", "trials": 40, "seed": 1, **plan})
    return run_search(evaluator, asked, ladder=on(judge, cohort)), judge


def reached(candidate: Candidate) -> int:
    return 0 if candidate.learned is None else candidate.learned.rung


def test_rungs_train_three_times_as_long_as_those_below_and_the_top_with_several_seeds() -> None:
    ladder = ladder_of(Written(), 90, 0)
    assert [(rung.steps, len(rung.seeds)) for rung in ladder.rungs] == [(10, 1), (30, 1), (90, 3)]
    assert ladder.rungs != ladder_of(Written(), 90, 1).rungs
    assert ladder.climbers(27) == (27, 9, 3) and ladder.climbers(10) == (10, 4, 2)
    assert ladder.climbers(1) == (1, 1, 1)
    assert [rung.steps for rung in ladder_of(Written(), 2, 0).rungs] == [1, 2]
    assert [rung.steps for rung in ladder_of(Written(), 1, 0).rungs] == [1]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 27), st.integers(0, 3))
@settings(max_examples=40)
def test_of_each_cohort_the_best_third_goes_on_and_nothing_better_is_cut(
    errors: list[int], cohort: int, refused: int
) -> None:
    """Errors tie often; a refused candidate takes nobody's place."""
    space = Space({"n": tuple(range(len(errors)))})
    ladder = Ladder(Written(), (Rung(1, (0,)), Rung(3, (0,)), Rung(9, (0,))), cohort=cohort)
    told: dict[int, Outcome] = {}
    steps, cohorts = driven(space, errors, ladder, refused, told)
    assert sorted(told) == list(range(len(errors)))
    for places in cohorts:
        counts = Counter(step.rung for step in steps if step.point["n"] in places)
        there = [
            [n for n in places if (n, rung) in {(s.point["n"], s.rung) for s in steps}] for rung in (1, 2, 3)
        ]
        for below, above in itertools.pairwise(there):
            fit = [n for n in below if not is_refused(n, refused)]
            assert len(above) == ladder.kept(len(fit)) if fit else not above
            cut = [n for n in fit if n not in above]
            assert all(errors[n] <= errors[other] for n in above for other in cut)
            assert all(told[n].rank < told[other].rank for n in above for other in cut)
        assert counts[1] == len(places) <= cohort


def is_refused(n: int, refused: int) -> bool:
    return refused > 0 and n % 4 < refused


def driven(
    space: Space, errors: Sequence[int], ladder: Ladder, refused: int, told: dict[int, Outcome]
) -> tuple[list[Step], list[list[int]]]:
    """Runs cohorts of points whose errors are given to their end; the steps made, and who began together."""
    objective = JUDGED_OBJECTIVES["accuracy"]

    class Noted(RandomSearch):
        def tell(self, point: Point, outcome: Outcome) -> None:
            assert int(str(point["n"])) not in told
            told[int(str(point["n"]))] = outcome
            super().tell(point, outcome)

    halving = Halving(
        Noted(space, random.Random(0)),
        lambda found: outcome_of(found, objective, True, ladder.judged),
        ladder,
        objective,
    )
    steps: list[Step] = []
    cohorts: list[list[int]] = []
    while (step := halving.ask(is_open=True)) is not None:
        steps.append(step)
        n = int(str(step.point["n"]))
        if step.rung == 0:
            if len(steps) == 1 or steps[-2].rung:
                cohorts.append([])
            cohorts[-1].append(n)
        halving.tell(step, evaluation(step, errors, refused), None)
    return steps, cohorts


def evaluation(step: Step, errors: Sequence[int], refused: int) -> Evaluation:
    n = int(str(step.point["n"]))
    if step.rung == 0:
        return counted(step.point, f"{n}")
    assert step.known is not None
    if is_refused(n, refused):
        return Refusal(step.point, "refused")
    return replace(step.known, learned=Learned(step.rung, 1, (0,), (1 - errors[n] / 10,), 1))


def counted(point: Point, ir_hash: str) -> Candidate:
    return Candidate(point, ir_hash, Quantities(1, 1, 1, 1, 1.0))


def test_a_search_trains_what_the_ladder_says_and_nothing_twice(evaluator: Evaluator) -> None:
    result, judge = climbed(evaluator, trials=40)
    assert len(result.trials) + result.invalid == 40
    assert result.trained == tuple(a + b for a, b in zip(*cohorts_of(result, 27), strict=True))
    assert (
        len(judge.tried)
        == len(set(judge.tried))
        == sum(count * len(rung.seeds) for count, rung in zip(result.trained, result.rungs, strict=True))
    )
    assert result.steps == sum(steps for _, steps, _ in judge.tried)
    assert result.duplicates > 0


def cohorts_of(result: SearchResult, cohort: int) -> list[tuple[int, ...]]:
    ladder = on(Written(), cohort)
    count = len(result.trials)
    return [ladder.climbers(cohort), ladder.climbers(count - cohort)]


def test_the_best_is_the_least_error_among_what_was_trained_longest(evaluator: Evaluator) -> None:
    result, _ = climbed(evaluator)
    longest = [trial for trial in result.trials if reached(trial) == 3]
    errors = {trial.ir_hash: trial.learned.error for trial in longest if trial.learned is not None}
    assert len(longest) == result.trained[2] and errors[result.best.ir_hash] == min(errors.values())
    rungs = [reached(trial) for trial in result.top]
    assert rungs == sorted(rungs, reverse=True) and len(result.top) == 10
    assert result.best.learned is not None and len(result.best.learned.accuracies) == 3


def test_the_front_is_of_error_and_costs_among_what_was_trained_longest(evaluator: Evaluator) -> None:
    result, judge = climbed(evaluator, objective="balanced", trials=90)
    ladder = on(judge)
    longest = [trial for trial in result.trials if reached(trial) == 3]
    names = ("error", "latency", "memory", "params")
    vectors = [tuple(getattr(ladder.judged(trial), name) for name in names) for trial in longest]
    assert list(result.front) == [longest[place] for place in front(vectors)]
    assert result.best in result.front and len(result.front) > 1


def test_what_breaks_a_constraint_is_never_trained(evaluator: Evaluator) -> None:
    limit = parse_constraint("params<=300")
    judge = Written()
    limited = Evaluator(evaluator.blueprint, constraints=[limit])
    result = run_search(limited, Plan("accuracy", trials=60), ladder=on(judge))
    assert result.infeasible > 0 and result.best.figures.params <= 300
    allowed = {trial.ir_hash for trial in result.trials if trial.is_feasible}
    assert {ir_hash for ir_hash, _, _ in judge.tried} == allowed
    assert all((reached(trial) > 0) == trial.is_feasible for trial in result.trials)


def test_what_the_judge_has_no_use_for_is_counted_as_refused(evaluator: Evaluator) -> None:
    result, _ = climbed(evaluator, Written(refused=4))
    kept = {trial.ir_hash for trial in result.trials}
    assert result.invalid > 1 and len(result.trials) + result.invalid == 40
    assert not [ir_hash for ir_hash in kept if int(ir_hash[:8], 16) % 4 == 0]
    with pytest.raises(NothingValid, match="none of 40 candidates"):
        climbed(evaluator, Written(refused=1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("objective", JUDGED_OBJECTIVES)
def test_every_algorithm_climbs_and_equal_seeds_give_equal_results(
    evaluator: Evaluator, algorithm: str, objective: str
) -> None:
    first, second = (
        climbed(evaluator, algorithm=algorithm, objective=objective, cohort=9, trials=30)[0] for _ in range(2)
    )
    assert first == second and first.stopped == Stop.TRIALS
    assert first.trained[0] == len(first.trials) and 0 < first.trained[2] < first.trained[1]


@pytest.mark.parametrize("width", [1, 4])
def test_threads_give_what_one_thread_gives_at_the_same_width(evaluator: Evaluator, width: int) -> None:
    plan = Plan("accuracy", trials=40, width=width)
    expected = run_search(evaluator, plan, ladder=on(Written()))
    with ThreadPoolExecutor(3) as threads:
        assert run_search(evaluator, plan, ladder=on(Written()), executor=threads) == expected


def test_what_evaluates_on_a_ladder_goes_to_other_processes(evaluator: Evaluator) -> None:
    point = next(iter(evaluator.space.points()))
    climbing = Climbing(evaluator, on(Written()))
    assert pickle.loads(pickle.dumps(climbing))(point, 2) == climbing(point, 2)


@pytest.mark.parametrize("width", [1, 3])
def test_stopped_after_any_evaluation_a_search_goes_on_and_ends_like_an_unbroken_one(
    evaluator: Evaluator, tmp_path: Path, width: int
) -> None:
    plan = Plan("accuracy", trials=8, seed=2, width=width)
    seen: list[Progress] = []
    expected = run_search(evaluator, plan, ladder=on(Written(), 4), watch=seen.append)
    wanted = sum(len(expected.rungs[n].seeds) * count for n, count in enumerate(expected.trained))
    for stop in range(0, len(seen), 4):
        file, judge, counted = tmp_path / f"{stop}.db", Written(), [0]
        ladder = on(judge, 4)

        def watch(progress: Progress, counted: list[int] = counted) -> None:
            counted[0] += 1

        for last in (stop, 10**9):
            asked = question(evaluator, plan, ladder)
            with open_store(file, asked, evaluator.space, resume=True) as store:
                counted[0] = 0
                try:
                    result = run_search(
                        evaluator,
                        plan,
                        ladder=ladder,
                        store=store,
                        watch=watch,
                        is_cancelled=lambda last=last, counted=counted: counted[0] >= last,  # type: ignore[misc]
                    )
                except EsperError:
                    assert stop == 0
        assert result == expected and len(judge.tried) == wanted


def test_a_storage_of_another_ladder_or_place_is_refused(evaluator: Evaluator, tmp_path: Path) -> None:
    plan, ladder = Plan("accuracy"), on(Written())
    others = [
        None,
        replace(ladder, about={"task": "digits"}),
        replace(ladder, cohort=9),
        replace(ladder_of(Written(), 80, 0), cohort=27),
    ]
    first = question(evaluator, plan, ladder)
    assert all(question(evaluator, plan, other) != first for other in others)


def test_a_cancelled_search_keeps_the_best_of_the_highest_rung_so_far(evaluator: Evaluator) -> None:
    seen: list[Progress] = []
    result = run_search(
        evaluator,
        Plan("accuracy", trials=100),
        ladder=on(Written(), 9),
        watch=seen.append,
        is_cancelled=lambda: bool(seen) and seen[-1].trained[1] == 2,
    )
    assert result.stopped == Stop.CANCELLED and result.best == seen[-1].best and result.trained[1:] == (2, 0)
    assert reached(result.best) == 2 and {reached(trial) for trial in result.front} == {2}


def test_progress_tells_a_best_that_only_a_higher_rung_or_less_error_replaces(evaluator: Evaluator) -> None:
    seen: list[Progress] = []
    ladder = on(Written())
    run_search(evaluator, Plan("accuracy", trials=60), ladder=ladder, watch=seen.append)
    errors = [ladder.judged(one.best).error for one in seen if one.best is not None]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1.0 < errors[0]


def test_a_search_that_no_longer_gets_better_ends_early(evaluator: Evaluator) -> None:
    result, _ = climbed(evaluator, algorithm="random", cohort=9, trials=80, patience=12)
    assert result.stopped == Stop.PATIENCE and len(result.trials) < 80
    assert reached(result.best) == 3


def test_accuracy_without_anything_to_train_on_is_an_error(evaluator: Evaluator) -> None:
    with pytest.raises(AccuracyUnjudged, match="accuracy on which task"):
        run_search(evaluator, Plan("accuracy"))


def test_what_was_learned_is_written_down_and_read_back(evaluator: Evaluator) -> None:
    point = next(iter(evaluator.space.points()))
    candidate = Climbing(evaluator, on(Written()))(point, 3)
    assert candidate.learned is not None and candidate.learned.standard_error is not None
    assert from_json(point, to_json(candidate)) == candidate
    assert key_of(candidate) == key_of(evaluator(point))


def test_the_place_alone_is_trained_as_candidates_are_at_the_top() -> None:
    ladder = on(Written())
    alone = ladder.alone()
    assert (alone.rung, alone.steps, alone.seeds) == (3, STEPS, ladder.rungs[-1].seeds)
    assert alone.accuracies == tuple(share(STEPS, seed) for seed in alone.seeds)


def test_where_a_proxy_screens_the_best_third_by_it_is_trained_and_nothing_else(evaluator: Evaluator) -> None:
    judge = Written()
    ladder = replace(on(judge), cohort=8).screened()
    assert ladder.cohort == 24 and [rung.steps for rung in ladder.rungs] == [0, 10, 30, 90]
    result = run_search(evaluator, Plan("accuracy", trials=24, seed=1), ladder=ladder)
    proxies = {ir_hash: 1.0 - math.log(1.1 - share(ir_hash)) for ir_hash in judge.seen}
    assert len(proxies) == len(judge.seen) == len(result.trials) == result.trained[0]
    ahead = sorted(proxies, key=lambda ir_hash: -proxies[ir_hash])[: ladder.kept(len(proxies))]
    assert set(ahead) == {ir_hash for ir_hash, _, _ in judge.tried}
    cut = [trial for trial in result.trials if trial.ir_hash not in ahead]
    assert all(trial.learned is None and trial.proxy is not None for trial in cut)
    assert all(trial.learned is not None for trial in result.trials if trial not in cut)
    assert all(3.0 < ladder.judged(trial).error < 4.0 for trial in cut)
    assert from_json(cut[0].values, to_json(cut[0])) == cut[0]
    assert result.steps == sum(steps for _, steps, _ in judge.tried)
