"""Pipelines as text: names and options by the fields' types, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.errors import EsperError
from esper.ir import BlueprintIR, DType
from esper.passes import PASSES, Law, Pass, parse_pipeline, pipeline_text, run_passes
from esper.passes.autodiff import Autodiff
from esper.passes.errors import BadOption, MalformedPipeline, OptionNowhere, UnknownOption, UnknownPass
from esper.passes.pipeline import options, set_everywhere, summary

NAMES = st.from_regex(r"[A-Za-z_]\w{0,5}(\.\w{1,3})?", fullmatch=True).filter(lambda name: name != "none")


@dataclass(frozen=True)
class Tuned:
    """A pass with an option of every kind."""

    fast_math: bool = False
    rounds: int = 3
    bound: float = 0.5
    dtype: DType = DType.BF16
    style: str = "plain"
    only: tuple[str, ...] = ()
    ranks: tuple[int, ...] | None = None
    least: float | None = None
    name: ClassVar[str] = "tuned"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return ir


@pytest.fixture(autouse=True)
def tuned() -> Iterator[Tuned]:
    entry = Tuned()
    PASSES["tuned"] = entry
    yield entry
    del PASSES["tuned"]


SETTINGS: dict[str, st.SearchStrategy[object]] = {
    "fast_math": st.booleans(),
    "rounds": st.integers(),
    "bound": st.floats(allow_nan=False),
    "dtype": st.sampled_from(DType),
    "style": NAMES,
    "only": st.lists(NAMES, max_size=3).map(tuple),
    "ranks": st.none() | st.lists(st.integers(), max_size=3).map(tuple),
    "least": st.none() | st.floats(allow_nan=False),
}


@given(given=st.lists(st.fixed_dictionaries({}, optional=SETTINGS), max_size=3), rest=st.sets(NAMES))
def test_the_text_of_a_pipeline_reads_back_as_the_pipeline(
    given: list[dict[str, object]], rest: set[str]
) -> None:
    PASSES["tuned"] = Tuned()
    passes: list[Pass] = [replace(Tuned(), **values) for values in given]  # type: ignore[arg-type]
    passes.append(Autodiff(tuple(sorted(rest))))
    assert parse_pipeline(pipeline_text(passes)) == passes


def test_spaces_and_a_last_comma_do_not_matter() -> None:
    text = " tuned { rounds = 4 , only = [ a.b, c ], } , dce,"
    assert parse_pipeline(text) == [Tuned(rounds=4, only=("a.b", "c")), PASSES["dce"]]


def test_an_empty_text_is_no_passes() -> None:
    assert parse_pipeline(" ") == []


def test_a_pass_without_options_in_the_text_is_the_one_in_the_table(tuned: Tuned) -> None:
    assert parse_pipeline("tuned")[0] is tuned


@pytest.mark.parametrize(
    ("text", "kind", "message", "help"),
    [
        ("dse", UnknownPass, "no pass `dse`", "the passes are autodiff, "),
        ("tuned{speed=1}", UnknownOption, "`tuned` has no option `speed`", "rounds (an integer; 3 unless"),
        ("dce{speed=1}", UnknownOption, "`dce` has no option `speed`", "its options: none"),
        ("tuned{rounds=1.5}", BadOption, "`rounds` of the pass `tuned` is `1.5`, expected an integer", ""),
        ("tuned{fast_math=1}", BadOption, "expected true or false", ""),
        ("tuned{dtype=float}", BadOption, "expected f16, bf16, f32", ""),
        ("tuned{only=a}", BadOption, "expected a list [a, b] of text", ""),
        ("tuned{ranks=[1, b]}", BadOption, "expected a list [a, b] of an integer or none", ""),
        ("tuned{style=[a]}", BadOption, "is `[a]`, expected text", ""),
        ("tuned{rounds}", MalformedPipeline, "at `rounds`", "`wrt=[x, y], fast_math=true`"),
        ("tuned{rounds=1, rounds=2}", MalformedPipeline, "at `rounds=2`", "each option once"),
        ("tuned{rounds=1", MalformedPipeline, "at `tuned{rounds=1`", "as in `dce`"),
        ("dce cse", MalformedPipeline, "at `dce cse`", "passes with commas between"),
        ("dce,,cse", MalformedPipeline, "at `,cse`", ""),
        ("dce}", MalformedPipeline, "at `dce}`", ""),
    ],
)
def test_what_cannot_be_read_is_named_with_what_could(
    text: str, kind: type[EsperError], message: str, help: str
) -> None:
    with pytest.raises(kind) as raised:
        parse_pipeline(text)
    assert message in str(raised.value)
    assert help in raised.value.help_text


def test_an_option_is_set_wherever_there_is_one() -> None:
    passes = [PASSES["dce"], Tuned(), Tuned(rounds=1)]
    assert set_everywhere(passes, "fast_math", True) == [
        PASSES["dce"],
        Tuned(fast_math=True),
        Tuned(fast_math=True, rounds=1),
    ]


def test_an_option_that_no_pass_has_is_refused_with_those_that_have_it() -> None:
    with pytest.raises(OptionNowhere, match="no pass of the pipeline `cse,dce` has the option") as raised:
        set_everywhere(parse_pipeline("cse,dce"), "fast_math", True)
    assert "tuned" in raised.value.help_text


@pytest.mark.parametrize("name", [name for name in PASSES if name != "tuned"])
def test_a_pass_says_in_one_line_what_it_does(name: str) -> None:
    line = summary(PASSES[name])
    assert line.endswith(".") and len(line) <= 100
    assert type(PASSES[name]).__module__.startswith("esper.passes.")


@pytest.mark.parametrize("name", PASSES)
def test_every_option_of_a_pass_can_be_written_in_text(name: str) -> None:
    entry = PASSES[name]
    listed = [option.name for option in options(entry)]
    assert listed == [field.name for field in fields(cast(Any, entry))]
    text = f"{name}{{{', '.join(f'{option.name}={option.value}' for option in options(entry))}}}"
    assert parse_pipeline(text) == [entry]


def test_a_pipeline_in_text_runs_with_its_options(small: BlueprintIR) -> None:
    joint = run_passes(small, "expand,autodiff{wrt=[x]},dce")
    assert [name for name, _ in joint.outputs] == ["y", "grad.x"]
