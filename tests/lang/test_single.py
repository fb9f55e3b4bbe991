"""A statement by itself does what it does within its blueprint."""

from __future__ import annotations

from pathlib import Path

from esper.ir.types import DType, TensorType
from esper.lang import load
from esper.lang.ast import Binding, Let, Output, Require
from esper.lang.scope import What
from esper.lang.settings import Settings
from esper.lang.single import PIPED, Given, Single, reads_of, stand_in, steps_of

SOURCE = """
blueprint block(width: dim = 8 in {4, 8}, act: op = relu) {
    require width > 4: "too narrow"
    let half = width // 2
    input x: f32[N, width]
    h = choice kind { plain => linear(x, half), low => x |> linear(half) |> act() }
    output h |> dropout(0.5) |> linear(width)
}
"""


def single(tmp_path: Path) -> Single:
    path = tmp_path / "block.esp"
    path.write_text(SOURCE)
    return Single(load(path), Settings())


def test_an_effect_depends_on_the_values_and_types_that_are_given(tmp_path: Path) -> None:
    one = single(tmp_path)
    _, let, _, binding, _ = one.loaded.blueprint.body
    assert isinstance(let, Let) and isinstance(binding, Binding)
    effect = one.effect(let, {"width": Given(What.PARAMETER, 12)})
    assert effect is not None and effect.bound == (("half", What.LET, 6),)
    names = {
        "x": Given(What.INPUT, TensorType(DType.F32, (3, 5))),
        "half": Given(What.LET, 6),
        "kind": Given(What.PARAMETER, "plain"),
    }
    effect = one.effect(binding, names)
    assert effect is not None
    (name, what, value) = effect.bound[0]
    assert (name, what) == ("h", What.TENSOR)
    node = effect.nodes[-1]
    assert node.op == "linear" and node.type == TensorType(DType.F32, (3, 6))
    assert node.operands[0] is not None and node.operands[0].node == stand_in("x")
    assert value == node.result()


def test_a_statement_that_is_refused_has_no_effect(tmp_path: Path) -> None:
    one = single(tmp_path)
    require = one.loaded.blueprint.body[0]
    assert isinstance(require, Require)
    assert one.effect(require, {"width": Given(What.PARAMETER, 4)}) is None
    assert one.effect(require, {"width": Given(What.PARAMETER, 8)}) is not None
    parameter = one.loaded.blueprint.parameters[0]
    assert one.parameter(parameter, {"width": 4}, {}) == 4
    assert one.parameter(parameter, {}, {}) == 8
    assert one.parameter(parameter, {"width": 5}, {}) is None
    assert one.domain(parameter, {}) == (4, 8)


def test_names_of_branches_that_are_not_taken_are_not_read(tmp_path: Path) -> None:
    binding = single(tmp_path).loaded.blueprint.body[3]
    assert isinstance(binding, Binding)
    assert set(reads_of(binding, {"kind": "plain"})) == {"kind", "linear", "x", "half"}
    assert set(reads_of(binding, {"kind": "low"})) == {"kind", "linear", "x", "half", "act"}


def test_each_step_of_a_pipeline_is_a_statement(tmp_path: Path) -> None:
    output = single(tmp_path).loaded.blueprint.body[4]
    *steps, last = steps_of(output)
    assert [step.names[0].text for step in steps if isinstance(step, Binding)] == [PIPED, PIPED]
    assert isinstance(last, Output)
    assert set(reads_of(last, {})) == {PIPED, "linear", "width"}
