"""canonicalize and fold: what each rule does, and what must stay for the sign of a zero or a rounding."""

from __future__ import annotations

import pytest

from esper.ir import BlueprintIR
from esper.passes import run_passes


def after(body: str, pipeline: str = "canonicalize,dce") -> list[str]:
    """The printed nodes but `x` and `z`, then the output, of `body` on x, z: f32[N, 4]."""
    text = f"blueprint b {{\n%x = input() : f32[N, 4]\n%z = input() : f32[N, 4]\n{body}\n}}"
    return [
        line.strip() for line in str(run_passes(BlueprintIR.from_text(text), pipeline)).splitlines()[3:-1]
    ]


def constant(value: str) -> str:
    return f"%c = constant() {{value={value}}} : f32[]\n"


@pytest.mark.parametrize(("op", "value"), [("add", "-0.0"), ("sub", "0.0"), ("mul", "1.0"), ("div", "1.0")])
def test_an_operation_with_its_neutral_element_goes(op: str, value: str) -> None:
    assert after(constant(value) + f"%y = {op}(%x, %c) : f32[N, 4]\noutput y = %y") == ["output y = %x"]


@pytest.mark.parametrize(("op", "value"), [("add", "0.0"), ("sub", "-0.0"), ("mul", "0.0"), ("div", "2.0")])
def test_what_would_change_a_bit_stays(op: str, value: str) -> None:
    assert f"%y = {op}(%x, %c) : f32[N, 4]" in after(
        constant(value) + f"%y = {op}(%x, %c) : f32[N, 4]\noutput y = %y"
    )


@pytest.mark.parametrize("op", ["mul", "div"])
def test_times_minus_one_is_negation(op: str) -> None:
    assert (
        after(constant("-1.0") + f"%y = {op}(%x, %c) : f32[N, 4]\noutput y = %y")[0]
        == "%y = neg(%x) : f32[N, 4]"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("add(%x, %n)", "sub(%x, %z)"),
        ("add(%n, %x)", "sub(%x, %z)"),
        ("sub(%x, %n)", "add(%x, %z)"),
        ("sub(%n, %x)", "sub(%n, %x)"),
        ("add(%z, %x)", "add(%x, %z)"),
        ("mul(%z, %x)", "mul(%x, %z)"),
        ("sub(%z, %x)", "sub(%z, %x)"),
        ("div(%z, %x)", "div(%z, %x)"),
    ],
)
def test_negations_are_absorbed_and_only_commutative_operands_ordered(source: str, expected: str) -> None:
    lines = after(f"%n = neg(%z) : f32[N, 4]\n%y = {source} : f32[N, 4]\noutput y = %y")
    assert f"%y = {expected} : f32[N, 4]" in lines


def test_a_double_negation_goes() -> None:
    assert after("%a = neg(%x) : f32[N, 4]\n%y = neg(%a) : f32[N, 4]\noutput y = %y") == ["output y = %x"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ("reshape(%x) {shape=[4*N]} : f32[4*N]", "reshape(%a) {shape=[N, 4]} : f32[N, 4]", None),
        (
            "reshape(%x) {shape=[4*N]} : f32[4*N]",
            "reshape(%a) {shape=[4, N]} : f32[4, N]",
            "reshape(%x) {shape=[4, N]} : f32[4, N]",
        ),
        ("permute(%x) {axes=[1, 0]} : f32[4, N]", "permute(%a) {axes=[1, 0]} : f32[N, 4]", None),
        (
            "broadcast_to(%x) {shape=[3, N, 4]} : f32[3, N, 4]",
            "broadcast_to(%a) {shape=[2, 3, N, 4]} : f32[2, 3, N, 4]",
            "broadcast_to(%x) {shape=[2, 3, N, 4]} : f32[2, 3, N, 4]",
        ),
        (
            "sum(%x) {axes=[1], keepdims=false} : f32[N]",
            "reshape(%a) {shape=[N, 1]} : f32[N, 1]",
            "sum(%x) {axes=[1], keepdims=true} : f32[N, 1]",
        ),
        ("cast(%x) {dtype=f64} : f64[N, 4]", "cast(%a) {dtype=f32} : f32[N, 4]", None),
        (
            "cast(%x) {dtype=bf16} : bf16[N, 4]",
            "cast(%a) {dtype=f32} : f32[N, 4]",
            "cast(%a) {dtype=f32} : f32[N, 4]",
        ),
    ],
)
def test_views_and_casts_compose_where_nothing_is_lost(first: str, second: str, left: str | None) -> None:
    lines = after(f"%a = {first}\n%y = {second}\noutput y = %y")
    assert lines[-2:] == ([f"%y = {left}", "output y = %y"] if left else ["output y = %x"])


def test_an_operand_is_not_broadcast_before_an_operator_that_does_it() -> None:
    body = "%s = sum(%x) {axes=[1], keepdims=true} : f32[N, 1]\n"
    body += "%b = broadcast_to(%s) {shape=[N, 4]} : f32[N, 4]\n"
    assert "%y = mul(%x, %s) : f32[N, 4]" in after(body + "%y = mul(%b, %x) : f32[N, 4]\noutput y = %y")
    assert "%y = mul(%b, %b) : f32[N, 4]" not in after(body + "%y = mul(%b, %b) : f32[N, 4]\noutput y = %y")


def test_constants_are_folded_and_what_follows_simplified() -> None:
    body = constant("2.0") + "%h = constant() {value=0.5} : f32[]\n%o = mul(%c, %h) : f32[]\n"
    assert after(body + "%y = mul(%o, %x) : f32[N, 4]\noutput y = %y", "fold,dce") == ["output y = %x"]


@pytest.mark.parametrize(
    ("size", "folded"),
    [("6", "constant() {value=6.0} : f32[]"), ("2*N", "size() {value=2*N, dtype=f32} : f32[]")],
)
def test_a_concrete_size_is_a_constant_and_a_symbolic_one_is_not(size: str, folded: str) -> None:
    body = f"%c = size() {{value={size}, dtype=f32}} : f32[]\n%y = mul(%x, %c) : f32[N, 4]\noutput y = %y"
    assert f"%c = {folded}" in after(body, "fold")


@pytest.mark.parametrize(
    ("expression", "folded"),
    [
        ("add(%c, %d)", True),  # 0.5 + 0.25
        ("div(%c, %d)", True),
        ("div(%c, %z)", False),  # by zero
        ("mul(%t, %t)", False),  # 0.1 * 0.1 rounds otherwise in float32 than in float64
    ],
)
def test_arithmetic_is_folded_only_where_it_is_exact_in_every_precision(
    expression: str, folded: bool
) -> None:
    lines = [
        "blueprint b {",
        *(
            f"%{name} = constant() {{value={value}}} : f32[]"
            for name, value in (("c", 0.5), ("d", 0.25), ("z", 0.0), ("t", 0.1))
        ),
        f"%y = {expression} : f32[]",
        "output y = %y\n}",
    ]
    found = run_passes(BlueprintIR.from_text("\n".join(lines)), "fold").node("y").op
    assert (found == "constant") is folded


def test_equal_draws_and_equal_params_are_not_merged() -> None:
    body = """
%w = param() {init="zeros", fan_in=1, gain=1.0} : f32[4]
%v = param() {init="zeros", fan_in=1, gain=1.0} : f32[4]
%s = seed() : i64[]
%a = dropout(%x, %s) {p=0.5, offset=1} : f32[N, 4]
%b = dropout(%x, %s) {p=0.5, offset=1} : f32[N, 4]
%c = add(%a, %w) : f32[N, 4]
%d = add(%b, %v) : f32[N, 4]
%y = mul(%c, %d) : f32[N, 4]
output y = %y"""
    assert len(after(body, "canonicalize,fold,cse,dce")) == 9


def test_minus_zero_and_zero_are_two_constants() -> None:
    body = constant("0.0") + "%d = constant() {value=-0.0} : f32[]\n%a = mul(%x, %c) : f32[N, 4]\n"
    lines = after(body + "%b = mul(%x, %d) : f32[N, 4]\n%y = add(%a, %b) : f32[N, 4]\noutput y = %y", "cse")
    assert len(lines) == 6
