"""`--set` and `--size` options, and defaults written back into a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esper.errors import EsperError
from esper.lang import (
    BlueprintRejected,
    ParameterInfo,
    Signature,
    lower,
    parse_settings,
    parse_size_settings,
    parse_source,
    rewrite_defaults,
    signature,
    size_values,
)

SIGNATURE = Signature(
    "b",
    "",
    (
        ParameterInfo("width", "dim", 4, None, ""),
        ParameterInfo("rate", "float", 0.5, None, ""),
        ParameterInfo("flag", "bool", True, None, ""),
        ParameterInfo("act", "op", "relu", None, ""),
    ),
)


def test_settings_are_typed_by_the_parameters_kind() -> None:
    settings = ["width=8", "rate=1", "flag=false", "act = gelu"]
    assert parse_settings(SIGNATURE, settings) == {"width": 8, "rate": 1.0, "flag": False, "act": "gelu"}


@pytest.mark.parametrize(
    ("setting", "code", "help"),
    [
        ("width", "E0409", "width=64"),
        ("widht=3", "E0404", "did you mean `width`?"),
        ("width=wide", "E0405", ""),
        ("flag=2", "E0405", ""),
        ("flag=True", "E0405", "did you mean `true`?"),
        ("width=1_0", "E0405", ""),
        ("width=+5", "E0405", ""),
        ("width=\uff15", "E0405", ""),
        ("rate=.5", "E0405", ""),
        ("rate=nan", "E0405", ""),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(setting: str, code: str, help: str) -> None:
    with pytest.raises(EsperError) as caught:
        parse_settings(SIGNATURE, [setting])
    assert caught.value.code == code
    assert help in caught.value.help_text


def test_sizes_are_numbers_or_lists() -> None:
    assert parse_size_settings(["N=64", "S=28,28", "T=5,"]) == {"N": 64, "S": (28, 28), "T": (5,)}


@pytest.mark.parametrize("setting", ["N", "=3", "N=", "N=x", "N=0", "S=2,,3", "N=99999999999"])
def test_a_size_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(EsperError) as caught:
        parse_size_settings([setting])
    assert caught.value.code == "E0410"


@pytest.mark.parametrize("value", ["28", 2.5, True, None, (28, "28")])
def test_a_size_from_python_is_an_integer_or_a_tuple_of_them(value: Any) -> None:
    with pytest.raises(EsperError) as caught:
        lower("conv_enhance", sizes={"S": value})
    assert caught.value.code == "E0410"


def test_sizes_without_values_have_the_documented_defaults() -> None:
    assert size_values(lower("attention")) == {"N": 32, "T": 64}
    assert size_values(lower("conv_enhance"), {"N": 8}) == {"N": 8, "S.0": 32, "S.1": 32}


@pytest.mark.parametrize(("sizes", "code"), [({"M": 3}, "E0411"), ({"S": (3,)}, "E0410")])
def test_sizes_must_be_the_graphs(sizes: dict[str, int], code: str) -> None:
    with pytest.raises(EsperError) as caught:
        size_values(lower("conv_enhance"), sizes)
    assert caught.value.code == code


SOURCE = """\
# A comment.
blueprint b(
    width: dim = 4,   ## four   (not five)
    rate: float,
    act: op = relu in {relu, gelu},  # chosen
) { input x: f32[N, width] output act(x) * rate }
"""


def test_new_defaults_leave_comments_and_layout() -> None:
    rewritten = rewrite_defaults(SOURCE, {"width": 16, "rate": 0.5, "act": "gelu"})
    expected = SOURCE.replace("= 4,", "= 16,").replace("rate: float,", "rate: float = 0.5,")
    assert rewritten == expected.replace("= relu in", "= gelu in")
    assert parse_source(rewritten)[1] == []


@pytest.mark.parametrize("default", ["(2 + 2)", "((4))", "2 * (1 + 1)", "(1 + 1) * 2"])
def test_a_default_in_parentheses_is_replaced_whole(default: str) -> None:
    source = f"blueprint b(width: dim = {default} in {{4, 5}}) {{ input x: f32[N, width] output x }}"
    assert rewrite_defaults(source, {"width": 5}) == source.replace(default, "5")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"width": 0}, "E0413"),
        ({"width": 2.5}, "E0405"),
        ({"rate": float("nan")}, "E0405"),
        ({"act": "relu) { output x } #"}, "E0201"),
    ],
)
def test_a_default_of_another_kind_is_not_written(values: dict[str, float | str], code: str) -> None:
    with pytest.raises(EsperError) as caught:
        rewrite_defaults(SOURCE, values)
    assert caught.value.code == code


def test_a_precision_is_written_as_the_first_statement() -> None:
    source = "blueprint b(n: dim = 4) {\n    input x: f32[N, n]\n    output x\n}\n"
    stated = source.replace("    input", "    precision f16\n    input")
    assert rewrite_defaults(source, {}, precision="f16") == stated
    assert rewrite_defaults(stated, {}, precision="bf16") == stated.replace("f16", "bf16")


CHOICES = """\
blueprint b() {
    input x: f32[N]
    h = choice kind { soft => gelu(x), hard => choice how { a => relu(x), b => relu6(x) }, }  # either
    output choice kind { soft => h, hard => h * 2 }
}
"""


def test_a_chosen_branch_comes_first_in_each_of_its_choices() -> None:
    rewritten = rewrite_defaults(CHOICES, {"kind": "hard", "how": "b"})
    hard = "hard => choice how { b => relu6(x), a => relu(x) }"
    assert f"choice kind {{ {hard}, soft => gelu(x), }}  # either" in rewritten
    assert "choice kind { hard => h * 2, soft => h }" in rewritten
    assert rewrite_defaults(rewritten, {"kind": "soft", "how": "a"}) == CHOICES


def test_rewriting_refuses_what_it_does_not_know() -> None:
    for values, name, code in [({"depth": 1}, None, "E0404"), ({"width": 1}, "c", "E0209")]:
        with pytest.raises(EsperError) as caught:
            rewrite_defaults(SOURCE, values, name=name)
        assert caught.value.code == code


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(0.5), None, [1]])
def test_a_value_from_python_is_a_finite_number(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text("blueprint b(rate: float = 0.5) { input x: f32[N] output x * rate }")
    with pytest.raises(BlueprintRejected) as caught:
        lower(path, rate=value)
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["E0405"]


def test_a_float_of_numpy_is_stored_as_pythons(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text("blueprint b(rate: float = 0.5) { input x: f32[N] output x * rate }")
    assert str(lower(path, rate=np.float64(0.25))) == str(lower(path, rate=0.25))


def test_a_parameter_named_as_an_argument_of_compile_is_refused_on_loading(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text("blueprint b(name: int = 3) { input x: f32[N] output x * name }")
    with pytest.raises(BlueprintRejected) as caught:
        parse_settings(signature(path), ["name=4"])
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["E0105"]
