"""Texts that once made the compiler run on or raise end with a diagnostic. The fuzzer found most of them."""

from __future__ import annotations

import pytest

from tests.lang.laws import STATEMENTS, elaborated, processor_time

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
