"""Small texts that ask for much work end with a diagnostic. The fuzzer found the ones with a remark."""

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
