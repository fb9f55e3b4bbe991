"""The library: each blueprint is found by name, documented, lowered without arguments, and an identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esper.errors import EsperError
from esper.ir.dims import evaluate_size
from esper.lang import Interval, check, fit, library, library_entry, lower, signature, size_values
from esper.lang.errors import DoesNotFit, SeveralBlueprints, UnknownBlueprint

ENTRIES = library()
NAMES = [entry.name for entry in ENTRIES]
SEEDS = ["attention", "conv_enhance", "depthwise", "mlp_block", "norm"]


def test_the_library_has_the_seeds_of_the_requirements() -> None:
    assert set(SEEDS) <= set(NAMES)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_each_blueprint_has_no_diagnostic_and_is_documented(entry: object) -> None:
    found = next(e for e in ENTRIES if e is entry)
    assert check(found.file) == []
    assert found.summary.endswith(".") and "arXiv" in found.signature.doc
    assert all(parameter.doc for parameter in found.signature.parameters)
    assert Path(found.file).stem == found.name


@pytest.mark.parametrize("name", NAMES)
def test_each_blueprint_lowers_without_arguments_to_its_inputs_type_or_says_what_it_fits(name: str) -> None:
    ir = lower(name)
    keeps_its_type = [ir.type(value) for _, value in ir.outputs] == [node.type for node in ir.inputs]
    assert keeps_its_type or " fits " in signature(name).doc.replace("\n", " ")


@pytest.mark.parametrize("name", NAMES)
def test_each_choice_of_each_domain_lowers(name: str) -> None:
    for parameter in signature(name).parameters:
        domain = parameter.domain or ()
        for value in (domain.low, domain.high) if isinstance(domain, Interval) else domain:
            chosen: dict[str, Any] = {parameter.name: value}
            assert lower(name, **chosen).nodes


@pytest.mark.parametrize("name", SEEDS)
def test_each_seed_ends_in_weights_that_are_zero(name: str) -> None:
    ir = lower(name)
    last = ir.node(ir.outputs[0][1].node)
    assert last.op == "add"
    x, branch = last.operands
    assert x is not None and x.node == ir.inputs[0].name and branch is not None
    weights = ir.node(branch.node).operands[1:]
    assert weights and all(w is not None and ir.node(w.node).attr("init") == "zeros" for w in weights)


@pytest.mark.parametrize(
    ("name", "shape", "params", "sizes"),
    [
        ("conv_enhance", (32, 16, 40), {"channels": 16}, {"N": 32, "S": (40,)}),
        ("conv_enhance", (32, 16, 28, 28), {"channels": 16}, {"N": 32, "S": (28, 28)}),
        ("depthwise", (8, 3, 40), {"channels": 3}, {"N": 8, "S": (40,)}),
        ("mlp_block", (32, 64), {"features": 64}, {"N": 32, "S": ()}),
        ("norm", (32, 16, 40), {"features": 40}, {"N": 32, "S": (16,)}),
        ("attention", (4, 10, 64), {"features": 64}, {"N": 4, "T": 10}),
    ],
)
def test_fit_solves_a_shape_for_parameters_and_sizes(
    name: str, shape: tuple[int, ...], params: dict[str, int], sizes: dict[str, object]
) -> None:
    found, found_sizes = fit(name, shape)
    assert (found, found_sizes) == (params, sizes)
    bound: dict[str, Any] = dict(found)
    ir = lower(name, sizes=found_sizes, **bound)
    values = size_values(ir, found_sizes)
    assert tuple(evaluate_size(size, values) for size in ir.inputs[0].type.shape) == shape


def _blueprint(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "b.esp"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        ("(w: dim = 4) { input x: f32[N, w] output x }", (2, 3, 4), "its input `x` has 2 axes"),
        ("(w: dim = 4) { input x: f32[N, 2 * w] output x }", (2, 3), "2*w cannot be 3"),
        ("() { input x: f32[N, 8] output x }", (2, 3), "an axis is 3 where it has 8"),
        ("() { input x: f32[N, N] output x }", (2, 3), "`N` would be both 2 and 3"),
        ("(w: dim, v: dim) { input x: f32[N, w * v] output x }", (2, 6), "does not settle"),
        ("(w: dim = 4) { input x: f32[N, w] output linear(x, 2 * w) }", (2, 3), "it would return f32[2, 6]"),
        ("(w: dim = 4) { input x: i64[N, w] output x }", (2, 3), "its input `x` is i64"),
        ("(w: dim = 4) { input x: f32[N, w] input y: f32[N] output x }", (2, 3), "it has 2 inputs"),
        (
            '(w: dim) { require w % 2 == 0: "w is even" input x: f32[N, w] output x }',
            (2, 3),
            "w is even (E0401)",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_told_with_its_reason(
    text: str, shape: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DoesNotFit) as caught:
        fit(_blueprint(tmp_path, f"blueprint b{text}"), shape)
    assert caught.value.code == "E0329"
    assert reason in str(caught.value)


def test_fit_solves_a_multiple_and_takes_settled_parameters(tmp_path: Path) -> None:
    path = _blueprint(tmp_path, "blueprint b(w: dim, v: dim = 2) { input x: f32[N, w * v + 1] output x }")
    assert fit(path, (2, 7), params={"v": 3})[0] == {"w": 2}


def test_unknown_names_are_refused_with_the_closest(tmp_path: Path) -> None:
    two = _blueprint(
        tmp_path, "blueprint a() { input x: f32[N] output x } blueprint c() { input x: f32[N] output x }"
    )
    assert lower(two, name="c").name == "c"
    with pytest.raises(SeveralBlueprints, match="a, c") as several:
        lower(two)
    assert several.value.code == "E0214"
    with pytest.raises(UnknownBlueprint) as caught:
        library_entry("mlp_blok")
    assert "mlp_block" in caught.value.help_text
    for kind, arguments, code in [
        ("mlp_block", {"feature": 3}, "E0404"),
        ("mlp_block", {"sizes": {"M": 3}}, "E0411"),
        ("mlp_block", {"precision": "f8"}, "E0412"),
        (str(two), {"name": "d"}, "E0209"),
    ]:
        with pytest.raises(EsperError) as refused:
            lower(kind, **arguments)  # type: ignore[arg-type]
        assert refused.value.code == code
