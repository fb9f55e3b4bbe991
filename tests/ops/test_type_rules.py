"""What the type rules refuse, and what they say."""

from __future__ import annotations

import pytest

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import Builder, DType, TensorType, parse_type, symbol
from esper.ir.build import complete_attrs, infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue

Case = tuple[str, list[str | None], dict[str, AttrValue], str]

REFUSED: list[Case] = [
    (
        "conv",
        ["f32[N, 6, H]", "f32[30, 1, 3]", None],
        {"groups": 4},
        "`x` is f32[N, 6, H]: its channels are 6, not divisible by groups = 4",
    ),
    (
        "conv",
        ["f32[N, 8, H]", "f32[30, 2, 3]", None],
        {"groups": 4},
        "channels is 30, not divisible by groups = 4",
    ),
    (
        "conv",
        ["f32[N, 8, H]", "f32[8, 8, 4]", None],
        {},
        "kernel is 4, only an odd one keeps the sizes by itself",
    ),
    ("conv", ["f32[N, 8]", "f32[8, 8, 3]", None], {}, "`x` is f32[N, 8], expected [N, C, ...S]"),
    (
        "conv",
        ["f32[N, 8, 4]", "f32[8, 8, 3]", None],
        {"padding": 0, "dilation": 2},
        "axis 2 and padding = 0 have no room for a window of 5",
    ),
    ("conv", ["f32[N, 8, H]", "f32[8, 8, 3]", None], {"stride": 0}, "`stride` is 0, expected at least 1"),
    ("conv", ["f32[N, 8, H]", "bf16[8, 8, 3]", None], {}, "the dtypes differ"),
    ("conv", ["f32[N, 8, H]", "f32[4, 8, 3]", "f32[5]"], {}, "`bias` is f32[5], expected f32[4]"),
    ("depthwise_conv", ["f32[N, 8, H]", "f32[8, 2, 3]", None], {}, "expected 1 along axis 1"),
    ("layer_norm", ["i64[N, 8]", None, None], {}, "`x` is i64[N, 8], expected a floating dtype"),
    ("layer_norm", ["f32[N, 8]", "f32[4]", None], {}, "`weight` is f32[4], expected f32[8]"),
    ("layer_norm", ["bf16[N, 8]", "f32[8]", None], {}, "`weight` is f32[8], expected bf16[8]"),
    ("layer_norm", ["f32[]", None, None], {}, "expected at least one axis"),
    (
        "batch_norm",
        ["bf16[N, 8]", None, None, "bf16[8]", "f32[8]"],
        {},
        "`running_mean` is bf16[8], expected f32[8]",
    ),
    ("batch_norm", ["f32[1, 8]", None, None, "f32[8]", "f32[8]"], {}, "one value for each channel"),
    ("group_norm", ["f32[N, 30]", None, None], {"groups": 4}, "channels is 30, not divisible by groups = 4"),
    ("softmax", ["f32[N, 8]"], {"axis": 2}, "`axis` is 2, which is no axis of f32[N, 8]"),
    ("dropout", ["f32[N]", "i64[]"], {"p": 1.0, "offset": 0}, "`p` is 1.0, expected a probability below 1"),
    ("dropout", ["f32[N]", "i64[]"], {"p": 0.5, "offset": -1}, "`offset` is -1"),
    (
        "scaled_dot_product_attention",
        ["f32[N, 4, T, 8]", "f32[N, 3, T, 8]", "f32[N, 3, T, 8]", None, None],
        {},
        "its batch is not that of f32[N, 4, T, 8], or its heads do not divide those",
    ),
    (
        "scaled_dot_product_attention",
        ["f32[N, 4, T, 8]", "f32[N, 4, T, 6]", "f32[N, 4, T, 8]", None, None],
        {},
        "their last axes differ",
    ),
]


@pytest.mark.parametrize(("operator", "types", "attrs", "message"), REFUSED, ids=lambda case: str(case)[:40])
def test_a_wrong_use_is_refused_with_what_was_found_and_expected(
    operator: str, types: list[str | None], attrs: dict[str, AttrValue], message: str
) -> None:
    with pytest.raises(TypeRuleViolated) as error:
        infer(operator, types, attrs)
    assert message in str(error.value)


ACCEPTED: list[tuple[str, list[str | None], dict[str, AttrValue], list[str]]] = [
    ("conv", ["f32[N, C, H, W]", "f32[16, C, 3, 3]", None], {}, ["f32[N, 16, H, W]"]),
    (
        "conv",
        ["f32[N, 8, H, W]", "f32[16, 2, 3, 3]", "f32[16]"],
        {"stride": 2, "groups": 4},
        ["f32[N, 16, (H - 1)//2 + 1, (W - 1)//2 + 1]"],
    ),
    ("conv", ["f32[N, 8, H]", "f32[16, 8, 4]", None], {"padding": 0}, ["f32[N, 16, H - 3]"]),
    ("depthwise_conv", ["f32[N, C, H]", "f32[C, 1, 5]", "f32[C]"], {}, ["f32[N, C, H]"]),
    ("layer_norm", ["bf16[N, T, 8]", None, None], {}, ["bf16[N, T, 8]", "f32[N, T, 1]", "f32[N, T, 1]"]),
    ("rms_norm", ["f64[N, 8]", "f64[8]"], {}, ["f64[N, 8]", "f64[N, 1]"]),
    (
        "batch_norm",
        ["bf16[N, C, H]", "bf16[C]", "bf16[C]", "f32[C]", "f32[C]"],
        {},
        ["bf16[N, C, H]", "f32[C]", "f32[C]", "f32[C]", "f32[C]"],
    ),
    (
        "scaled_dot_product_attention",
        ["bf16[N, 4, T, 8]", "bf16[N, 4, S, 8]", "bf16[N, 4, S, 6]", None, None],
        {},
        ["bf16[N, 4, T, 6]", "f32[N, 4, T]"],
    ),
]


@pytest.mark.parametrize(("operator", "types", "attrs", "results"), ACCEPTED, ids=lambda case: str(case)[:40])
def test_result_types_follow_the_symbols(
    operator: str, types: list[str | None], attrs: dict[str, AttrValue], results: list[str]
) -> None:
    assert [str(type) for type in infer(operator, types, attrs)] == results


def test_a_depthwise_filter_follows_a_symbolic_number_of_channels() -> None:
    channels = symbol("C")
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (2, channels, 8)))
    weight = build.param("w", TensorType(DType.F32, (channels, 1, 3)))
    y = build.op("convolution", x, weight, padding=1, groups=channels)
    assert str(build.type(y)) == "f32[2, C, 8]"


def infer(operator: str, types: list[str | None], attrs: dict[str, AttrValue]) -> list[TensorType]:
    entry = OPERATORS[operator]
    operands = [None if text is None else parse_type(text) for text in types]
    return list(infer_types(entry, operands, complete_attrs(entry, attrs, node=operator)))
