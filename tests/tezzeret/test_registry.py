"""The registry: versions and lineage, answers with a time to live, regressions, and whose file it is."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import esper
from esper.errors import EsperError, WrongArgument
from esper.files import FileUnwritable
from esper.tezzeret import Evaluator
from esper.tezzeret.errors import UnknownQuantity
from esper.tezzeret.registry import Blueprint, Provenance, Registry, blueprint_of, open_registry
from esper.tezzeret.registry.errors import (
    RegistryForeign,
    RegistryInUse,
    UnknownVersion,
    UnregisteredBlueprint,
)
from esper.tezzeret.requirements import Requirements, parse_requirements

BY_HAND = Provenance("a test", "by hand")
DAY = 24 * 3600.0


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.time = 1e9

    def __call__(self) -> float:
        return self.time


def blueprint(letter: str) -> Blueprint:
    return Blueprint(letter * 64, "layer", f"blueprint layer() {{}} # {letter}", {"width": 8, "act": "relu"})


def asked(size: int) -> Requirements:
    return parse_requirements({"input_shape": [size], "output_shape": [size]})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(file: Path, clock: Clock) -> Iterator[Registry]:
    with open_registry(file, clock=clock, ttl_seconds=30 * DAY, capacity=3) as opened:
        yield opened


def test_what_a_search_found_can_be_lowered_again_from_the_registry(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "layer.esp"
    path.write_text(
        "blueprint layer(width: int = 8 in {8, 16}, act: op = relu in {relu, gelu}) {\n"
        "    input x: f32[N, 64]\n    output x |> linear(width) |> act()\n}\n"
    )
    evaluator = Evaluator(path, fixed={"act": "gelu"}, sizes={"N": 4}, precision="bf16")
    candidate = evaluator({"width": 16})
    provenance = Provenance(f"esper {esper.__version__}", "evolutionary", asked(64))
    with open_registry(file) as opened:
        number = opened.versions.add(blueprint_of(evaluator, candidate), provenance).number
    with open_registry(file) as opened:
        kept = opened.versions[number]
    assert (kept.provenance, kept.parent, kept.edit) == (provenance, None, "")
    again = tmp_path / "again.esp"
    again.write_text(kept.blueprint.source)
    found = kept.blueprint
    ir = esper.lower(
        again, name=found.name, sizes=found.sizes, precision=found.precision, **dict(found.values)
    )
    assert ir.hash == found.ir_hash == candidate.ir_hash


def test_a_version_keeps_when_and_from_what_it_was_made(registry: Registry, clock: Clock) -> None:
    first = registry.versions.add(blueprint("a"), BY_HAND)
    clock.time += 5
    second = registry.versions.add(blueprint("b"), BY_HAND, parent=first.number, edit="resize width 8 16")
    assert (first.time, second.time) == (1e9, 1e9 + 5)
    assert registry.versions[second.number] == second
    assert registry.versions.lineage(second.number) == [first, second]
    assert registry.versions.children(first.number) == [second]
    assert registry.versions.children(second.number) == []


def test_an_edit_that_is_undone_leads_to_the_blueprint_but_not_into_a_circle(registry: Registry) -> None:
    add = registry.versions.add
    first = add(blueprint("a"), BY_HAND)
    second = add(blueprint("b"), BY_HAND, parent=first.number, edit="there")
    third = add(blueprint("a"), BY_HAND, parent=second.number, edit="and back")
    assert registry.versions.lineage(third.number) == [first, second, third]
    assert registry.versions.of("a" * 64) == [first, third]
    assert registry.versions.of("c" * 64) == []


def test_what_was_made_in_the_same_way_before_is_the_same_version(registry: Registry, clock: Clock) -> None:
    first = registry.versions.add(blueprint("a"), BY_HAND)
    clock.time += 1
    other_source = Blueprint("a" * 64, "other", "blueprint other() {}")
    assert registry.versions.add(other_source, BY_HAND) == first
    assert registry.versions.add(blueprint("a"), Provenance("a test", "random")) != first
    assert registry.versions.add(blueprint("a"), Provenance("a test", "by hand", asked(1))) != first
    assert registry.versions.add(blueprint("a"), BY_HAND, parent=1, edit="nothing") != first
    assert len(registry.versions) == 4


def test_a_version_that_there_is_not_is_told_with_those_that_there_are(registry: Registry) -> None:
    with pytest.raises(UnknownVersion, match="no version 7") as caught:
        registry.versions.lineage(7)
    assert caught.value.help_text == "it has none yet"
    registry.versions.add(blueprint("a"), BY_HAND)
    for call in (
        lambda: registry.versions[7],
        lambda: registry.versions.children(7),
        lambda: registry.versions.add(blueprint("b"), BY_HAND, parent=7),
        lambda: registry.answers.put(asked(1), 7),
    ):
        with pytest.raises(UnknownVersion) as caught:
            call()
        assert caught.value.help_text == "it has 1 to 1"
    assert registry.versions.of("b" * 64) == []
    with pytest.raises(UnknownVersion, match=f"no version {2**70}"):
        registry.versions.lineage(2**70)


def test_an_answer_serves_equal_requirements_until_its_time_is_up(registry: Registry, clock: Clock) -> None:
    version = registry.versions.add(blueprint("a"), BY_HAND)
    assert registry.answers.get(asked(8)) is None
    registry.answers.put(asked(8), version.number)
    clock.time += 30 * DAY - 1
    assert registry.answers.get(asked(8)) == version
    assert registry.answers.get(asked(9)) is None
    clock.time += 1
    assert registry.answers.get(asked(8)) is None
    assert len(registry.answers) == 0
    assert registry.versions[version.number] == version


def test_being_used_does_not_keep_an_answer_from_growing_stale_but_being_given_anew_does(
    registry: Registry, clock: Clock
) -> None:
    number = registry.versions.add(blueprint("a"), BY_HAND).number
    registry.answers.put(asked(8), number)
    clock.time += 20 * DAY
    assert registry.answers.get(asked(8)) is not None
    registry.answers.put(asked(9), number)
    clock.time += 20 * DAY
    assert registry.answers.get(asked(8)) is None
    registry.answers.put(asked(9), number)
    clock.time += 20 * DAY
    assert registry.answers.get(asked(9)) is not None


@settings(max_examples=15)
@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=25))
def test_beyond_the_capacity_the_least_recently_used_answer_goes(
    capacity: int, uses: list[tuple[bool, int]]
) -> None:
    expected: OrderedDict[int, int] = OrderedDict()
    with (
        TemporaryDirectory() as folder,
        open_registry(Path(folder, "registry.db"), capacity=capacity, clock=Clock()) as opened,
    ):
        numbers = {size: opened.versions.add(blueprint(str(size)), BY_HAND).number for size in range(1, 7)}
        for is_put, size in uses:
            if is_put:
                opened.answers.put(asked(size), numbers[size])
                expected[size] = numbers[size]
                expected.move_to_end(size)
                if len(expected) > capacity:
                    expected.popitem(last=False)
            else:
                found = opened.answers.get(asked(size))
                assert (found and found.number) == expected.get(size)
                if size in expected:
                    expected.move_to_end(size)
        assert len(opened.answers) == len(expected)


def measured(registry: Registry, value: float, quantity: str = "latency_ms", **other: Any) -> float | None:
    """The share of the regression that a measurement shows."""
    options: dict[str, Any] = {"standard_error": 0.01, "device": "a CPU", "conditions": {"N": 4}} | other
    found = registry.measurements.add("a" * 64, quantity, value, **options)
    return None if found is None else found.share


def test_a_measurement_beyond_the_noise_of_both_is_a_regression(registry: Registry) -> None:
    registry.versions.add(blueprint("a"), BY_HAND)
    assert measured(registry, 1.0) is None
    assert measured(registry, 1.05) is None
    assert measured(registry, 0.9) is None
    assert measured(registry, 0.95) is None
    assert measured(registry, 0.99) == pytest.approx(0.1)
    assert measured(registry, 0.99, standard_error=0.03) is None


def test_small_losses_are_told_once_they_add_up(registry: Registry) -> None:
    registry.versions.add(blueprint("a"), BY_HAND)
    assert [measured(registry, 1.0 + 0.02 * n) is not None for n in range(6)] == [False] * 4 + [True] * 2


def test_of_accuracy_more_is_better_and_of_a_count_any_loss_is_a_regression(registry: Registry) -> None:
    registry.versions.add(blueprint("a"), BY_HAND)
    assert [measured(registry, value, "accuracy") for value in (0.8, 0.9)] == [None, None]
    assert measured(registry, 0.8, "accuracy") == pytest.approx(1 / 9)
    assert [measured(registry, value, "params", standard_error=0) for value in (100, 100)] == [None, None]
    assert measured(registry, 101, "params", standard_error=0) == pytest.approx(0.01)
    assert measured(registry, 0, "bytes", standard_error=0) is None
    assert measured(registry, 1, "bytes", standard_error=0) == float("inf")


def test_only_measurements_of_the_same_are_compared(registry: Registry) -> None:
    for letter in "ab":
        registry.versions.add(blueprint(letter), BY_HAND)
    measured(registry, 1.0)
    assert measured(registry, 2.0, device="another CPU") is None
    assert measured(registry, 2.0, conditions={"N": 8}) is None
    assert measured(registry, 2.0, "memory_mb") is None
    other = registry.measurements.add(
        "b" * 64, "latency_ms", 2.0, standard_error=0.01, device="a CPU", conditions={"N": 4}
    )
    assert other is None
    assert registry.measurements.regressions() == []


def test_regressions_that_stand_are_listed_the_worst_first(registry: Registry, clock: Clock) -> None:
    registry.versions.add(blueprint("a"), BY_HAND)
    for device, values in {"mended": (1, 2, 1), "worse": (1, 2), "worst": (1, 3), "better": (2, 1)}.items():
        for value in values:
            clock.time += 1
            measured(registry, value, device=device)
    found = registry.measurements.regressions()
    assert [(one.found.device, one.share) for one in found] == [("worst", 2.0), ("worse", 1.0)]
    assert [(one.best.value, one.found.value) for one in found] == [(1.0, 3.0), (1.0, 2.0)]
    kept = registry.measurements.of("a" * 64)
    assert [one.time for one in kept] == [1e9 + n for n in range(1, 10)]
    assert kept[0].conditions == {"N": 4}


@given(
    st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.0, 0.1)), min_size=2, max_size=2),
    st.sampled_from(["latency_ms", "accuracy"]),
)
@settings(max_examples=15)
def test_of_two_measurements_at_most_one_is_worse(pair: list[tuple[float, float]], quantity: str) -> None:
    shares = []
    for order in (pair, pair[::-1]):
        with TemporaryDirectory() as folder, open_registry(Path(folder, "registry.db")) as opened:
            opened.versions.add(blueprint("a"), BY_HAND)
            shares.append([measured(opened, v, quantity, standard_error=e) for v, e in order][1])
    assert None in shares


def test_what_cannot_be_measured_is_refused(registry: Registry) -> None:
    with pytest.raises(UnregisteredBlueprint, match="a" * 64):
        measured(registry, 1.0)
    registry.versions.add(blueprint("a"), BY_HAND)
    with pytest.raises(UnknownQuantity, match="`latency`"):
        measured(registry, 1.0, "latency")
    for value, error in ((float("nan"), 0.0), (1.0, float("inf")), (1.0, -0.1)):
        with pytest.raises(WrongArgument):
            measured(registry, value, standard_error=error)
    assert registry.measurements.of("a" * 64) == []


@pytest.mark.parametrize("options", [{"ttl_seconds": 0}, {"ttl_seconds": float("nan")}, {"capacity": 0}])
def test_a_cache_that_could_hold_nothing_is_refused(file: Path, options: dict[str, Any]) -> None:
    with pytest.raises(WrongArgument):
        open_registry(file, **options)
    assert not file.exists()


def another_version(path: Path) -> None:
    open_registry(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()


def another_programs(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE diary (day TEXT)")
    connection.commit()
    connection.close()


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("dear diary\n" * 100), "no database"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "database": (another_programs, "another program's"),
    "folder": (lambda path: path.mkdir(), "no file"),
    "header alone": (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(84)), "another program's"),
    "another version": (another_version, "its version is 2, expected 1"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_registry_is_refused_and_left_as_it_was(file: Path, kind: str) -> None:
    make, told = FOREIGN[kind]
    make(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(RegistryForeign, match=told):
        open_registry(file)
    assert (file.read_bytes() if file.is_file() else None) == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def filled(file: Path) -> bytes:
    with open_registry(file, clock=Clock()) as opened:
        number = None
        for n in range(200):
            provenance = Provenance("a test", "by hand", asked(n + 1))
            number = opened.versions.add(
                blueprint("0123456789abcdef"[n % 16]), provenance, parent=number
            ).number
            opened.answers.put(asked(n + 1), number)
    return file.read_bytes()


def test_a_damaged_registry_is_refused_and_left_as_it_was(file: Path) -> None:
    whole = filled(file)
    places = [100, *range(4096, len(whole), 4096)]
    for place in places:
        scrambled = bytes(byte ^ 0x5A for byte in whole[place : place + 400])
        damaged = whole[:place] + scrambled + whole[place + 400 :]
        file.write_bytes(damaged)
        with pytest.raises(RegistryForeign):
            open_registry(file)
        assert file.read_bytes() == damaged
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RegistryForeign):
        open_registry(file)


@pytest.mark.parametrize(
    "change",
    ["settings = '[]'", "settings = '{'", "settings = '{}'"],
)
def test_a_row_that_says_something_else_than_a_version_is_refused(file: Path, change: str) -> None:
    filled(file)
    connection = sqlite3.connect(file)
    connection.execute(f"UPDATE blueprints SET {change}")
    connection.commit()
    connection.close()
    with open_registry(file) as opened, pytest.raises(RegistryForeign, match="cannot be read"):
        opened.versions.lineage(200)


def test_who_writes_for_too_long_is_named_and_nothing_is_lost(file: Path) -> None:
    with open_registry(file, patience_seconds=0.05) as opened:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryInUse):
            opened.versions.add(blueprint("a"), BY_HAND)
        assert opened.versions.of("a" * 64) == []
        other.execute("ROLLBACK")
        other.close()
        opened.versions.add(blueprint("a"), BY_HAND)


def test_where_no_file_can_be_written_the_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    for folder in ("nowhere", "file"):
        with pytest.raises(FileUnwritable, match=folder):
            open_registry(tmp_path / folder / "registry.db")
    with pytest.raises(FileUnwritable, match="aaa"):
        open_registry(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", ["a" * 240, "ä ?#%x=1&y☃.db", "bytes\udcff.db", ":memory:"])
def test_any_name_that_a_file_can_have_is_one_for_a_registry(tmp_path: Path, name: str) -> None:
    with open_registry(tmp_path / name) as registry:
        registry.versions.add(blueprint("a"), BY_HAND)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_the_log_of_a_registry_that_was_deleted_is_not_taken_for_that_of_the_next(file: Path) -> None:
    with open_registry(file) as opened:
        opened.versions.add(blueprint("a"), BY_HAND)
        log = Path(f"{file}-wal")
        left = log.read_bytes()
    file.unlink()
    log.write_bytes(left)
    with pytest.raises(RegistryForeign, match=r"`registry\.db-wal`, the log of a file that is gone"):
        open_registry(file)
    assert log.read_bytes() == left and not file.exists()
    log.unlink()
    with open_registry(file) as opened:
        assert len(opened.versions) == 0


def test_an_error_inside_a_transaction_leaves_nothing_of_it(registry: Registry) -> None:
    with pytest.raises(EsperError):
        registry.versions.add(blueprint("b"), BY_HAND, parent=3)
    registry.versions.add(blueprint("a"), BY_HAND)
    with pytest.raises(UnregisteredBlueprint):
        registry.measurements.add("b" * 64, "params", 1, standard_error=0, device="any")
