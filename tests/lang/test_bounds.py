"""Texts that once made the compiler run on or raise end with a diagnostic. The fuzzer found most of them."""

from __future__ import annotations

import pytest

from esper.lang import format_source
from esper.lang.diagnostics import Report
from esper.lang.elaborate import elaborate
from esper.lang.settings import Settings
from esper.lang.source import Source
from esper.lang.units import source_unit
from tests.lang.laws import FILE, STATEMENTS, elaborated, processor_time

HEAD = "blueprint b() { input x: f32[N] "


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "h = x repeat 10000 { repeat 10000 { h = relu(h) } } output h }",
        HEAD + "repeat 10000 { repeat 10000 { let a = 1 } } output x }",
        # found: a body without statements was taken a hundred million times, and counted for nothing
        HEAD + "repeat 10000 { repeat 10000 { } } output x }",
        HEAD + "repeat 10000 { repeat 10000 as i { } } output x }",
        HEAD + "repeat 10000 { repeat 10000 { let a = } } output x }",
    ],
)
def test_repetition_in_repetition_is_cut_off(text: str) -> None:
    with processor_time(10.0):
        graphs, found = elaborated(text)
    assert not graphs
    assert f"elaboration takes more than {STATEMENTS} statements" in [
        diagnostic.message for diagnostic in found
    ]


def test_a_syntax_error_between_the_arguments_of_a_default_ends_with_the_file() -> None:
    # found: arguments may be called `blueprint`, so that the recovery took the end of a file in the middle of
    # a call for the end of a blueprint, and waited for the next for ever
    text = "blueprint b(width: dim = r(act(x), width, init=zeros,\n}\n"
    with processor_time(10.0):
        _, found = elaborated(text)
    assert [diagnostic.code for diagnostic in found] == ["E0107"]


# found: the sizes of weights were read from the type of an operand that was a number
@pytest.mark.parametrize(
    "call", ["multi_head_attention(0.5, heads=2)", "add_and_norm(0.5, x)", "add_and_norm(x, 1)"]
)
def test_an_operator_with_weights_takes_no_number_for_a_tensor(call: str) -> None:
    _, found = elaborated(HEAD.replace("[N]", "[N, T, 8]") + f"h = {call} output x }}")
    assert [d.message.partition(" of ")[2] for d in found if d.code == "E0320"]


def test_a_mistake_that_repeats_is_looked_for_once() -> None:
    # found: every turn searched for a name like the unknown one, two seconds in all
    text = HEAD + "h = x repeat 10000 { h = h + nowhere h = h + y h = wrong(h) } output h }"
    settings = Settings(symbolic=True)
    report = Report(FILE)
    unit, _ = source_unit(Source(FILE, text))
    elaborate(unit, unit.program.blueprints[0], settings, report)
    assert [diagnostic.code for diagnostic in report.diagnostics] == ["E0202", "E0202", "E0201"]
    assert settings.budget.statements < 10


@pytest.mark.parametrize("sign", ["-", "not "])
def test_signs_in_a_row_are_laid_out(sign: str) -> None:
    # found: three calls of Python a sign, in a stack of a thousand
    text = HEAD + f"if {sign * 1000}true {{ }} output x }}"
    assert f"if {sign * 1000}true {{" in format_source(Source(FILE, text))


def test_too_many_statements_are_told_as_nothing_else() -> None:
    # found: the blueprints that were left in the middle counted as calling themselves
    calls = "".join(
        f"blueprint b{i + 1}() {{ input x: f32[N] output b{i}(x) + b{i}(x) }}\n" for i in range(18)
    )
    _, found = elaborated(f"blueprint b0() {{ input x: f32[N] output relu(x) }}\n{calls}")
    assert {diagnostic.code for diagnostic in found} == {"E0415"}
