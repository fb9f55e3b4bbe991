"""The syntax tree as text."""

from __future__ import annotations

from pathlib import Path

from esper.lang.library import load
from esper.lang.tree_text import tree_text

SOURCE = """blueprint twice(features: dim = 8 in {8, 16}) {
    input x: f32[N, features]
    y = x |> linear(features, bias=false)
    output y * 2.5 + -x
}
"""

TREE = """Blueprint 1:1
  name: twice
  parameters:
    Parameter 1:17
      name: features
      kind: dim
      default: 8
      domain: Domain 1:35
        choices:
          8
          16
  body:
    Input 2:5
      name: x
      type: TensorTypeExpr 2:14
        dtype: f32
        shape: Sizes 2:17
          items:
            N
            features
    Binding 3:5
      names:
        y
      value: Pipeline 3:9
        source: x
        steps:
          Call 3:14
            function: linear
            arguments:
              Argument 3:21
                value: features
              Argument 3:31
                name: bias
                value: False
    Output 4:5
      value: Binary 4:12
        operator: '+'
        left: Binary 4:12
          operator: '*'
          left: y
          right: 2.5
        right: Unary 4:22
          operator: '-'
          operand: x
"""


def test_a_tree_is_one_node_a_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "twice.esp").write_text(SOURCE)
    assert tree_text(load(tmp_path / "twice.esp").blueprint) == TREE


def test_a_tree_as_deep_as_one_may_be_is_written(tmp_path: Path) -> None:
    deep = "(" * 900 + "x" + ")" * 900
    negated = "-" * 900 + "x"
    text = f"blueprint deep() {{\n    input x: f32[N]\n    output {deep} + {negated}\n}}\n"
    (tmp_path / "deep.esp").write_text(text)
    assert tree_text(load(tmp_path / "deep.esp").blueprint).count("Unary") == 900
