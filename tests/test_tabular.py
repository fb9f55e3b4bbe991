"""The tabular benchmark: a stopped run goes on, a foreign journal is refused, the table keeps its laws."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tabular
from benchmarks.tabular import Benchmark, Journal, Settings, Trial, read_table, table_of, write_table

TINY = """blueprint tiny(channels: dim = 4, kernel: int = 1 in {1, 3}) {
    input x: f32[N, channels, ...S]
    h = choice norm { none => x, batch => batch_norm(x) }
    output h |> conv(channels, kernel=kernel)
}
"""


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    path = tmp_path_factory.mktemp("tabular") / "tiny.esp"
    path.write_text(TINY)
    return Benchmark(path, Settings(steps=2, seeds=(0, 1)))


def run(benchmark: Benchmark, journal: Path, limit: int | None = None) -> list[Trial]:
    with ThreadPoolExecutor(1) as pool:
        return tabular.run(benchmark, Journal(journal, benchmark.asked), pool, 1, limit)


def accuracies(trials: list[Trial]) -> dict[tuple[str, int], float]:
    return {(trial.ir_hash, trial.seed): trial.accuracy for trial in trials}


def test_a_run_that_was_cut_off_goes_on_and_ends_as_one_that_was_not(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    whole = run(benchmark, tmp_path / "whole.jsonl")
    assert len(whole) == len(accuracies(whole)) == 4 * 2
    cut = tmp_path / "cut.jsonl"
    assert len(run(benchmark, cut, limit=3)) == 3
    with cut.open("ab") as file:
        file.write(b'{"ir_hash": "3f')
    assert accuracies(run(benchmark, cut)) == accuracies(whole)
    assert len(cut.read_bytes().splitlines()) == 1 + 4 * 2


def test_the_journal_of_another_run_is_refused(benchmark: Benchmark, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    run(benchmark, journal, limit=0)
    longer = Benchmark(benchmark.source, replace(benchmark.settings, steps=3))
    with pytest.raises(SystemExit, match="another run"):
        run(longer, journal, limit=0)


def test_a_table_is_read_as_it_was_written_and_none_is_made_of_a_part(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    trials = [
        Trial(one.ir_hash, seed, index / 2000 + seed / 10, 0.25)
        for index, one in enumerate(benchmark.candidates)
        for seed in (0, 1)
    ]
    with pytest.raises(SystemExit, match="1 trainings are missing"):
        table_of(benchmark, trials[:-1])
    made = table_of(benchmark, trials)
    write_table(made, tmp_path / "table.json")
    read = read_table(tmp_path / "table.json")
    assert (read.points, read.hashes, read.asked) == (made.points, made.hashes, made.asked)
    assert all(np.array_equal(read.costs[figure], made.costs[figure]) for figure in tabular.FIGURES)
    assert np.array_equal(read.accuracy, made.accuracy)


def test_within_a_standard_error_of_the_best_mean_is_by_the_deviation_between_seeds() -> None:
    accuracy = np.array([[0.5, 0.7], [0.5, 0.6], [0.40, 0.42]])
    table = tabular.Table({}, "", [], [], {}, accuracy, 0.0)
    pooled = (0.2**2 / 2 + 0.1**2 / 2 + 0.02**2 / 2) / 3
    assert table.standard_error == pytest.approx((pooled / 2) ** 0.5)
    assert table.good.tolist() == [True, True, False]


def test_the_stored_table_is_all_of_its_space_with_three_seeds_each() -> None:
    table = read_table()
    assert len(table.points) >= 500
    assert len(set(table.hashes)) == len(table.hashes) == len(table.points)
    assert table.accuracy.shape == (len(table.points), 3) == (*table.mean.shape, len(Settings().seeds))
    assert table.accuracy.min() > 0.1 and table.accuracy.max() < 1.0
    asked = Benchmark(tabular.SPACE, Settings()).asked
    assert {key: asked[key] for key in ("space", "settings")} == {
        key: table.asked[key] for key in ("space", "settings")
    }


def test_the_stored_tables_rows_are_the_spaces_points_with_their_hashes_and_costs() -> None:
    table = read_table()
    evaluator = Benchmark(tabular.SPACE, Settings()).evaluator
    assert evaluator.space.size == len(table.points)
    for index in range(0, len(table.points), 45):
        found = evaluator(table.points[index])
        assert found.ir_hash == table.hashes[index]
        assert all(table.costs[f][index] == getattr(found.figures, f) for f in tabular.FIGURES)
    keys = {evaluator.space.encode(point) for point in table.points}
    assert len(keys) == len(table.points)
    deviation = table.mean.std()
    assert deviation > 2 * table.standard_error
