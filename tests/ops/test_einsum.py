"""Einstein summation is torch's for drawn equations, becomes products, and names the letter that is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, TensorType, parse_type
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, Composite, Site
from esper.lang import BlueprintRejected, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes
from esper.testing.laws import REAL_TOLERANCE
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import call, graph_module
from esper.urza.verify.verification import verify_programs

SIZES = {"a": 2, "b": 3, "C": 4, "d": 1}


@dataclass(frozen=True)
class Drawn:
    equation: str
    shapes: tuple[tuple[int, ...], ...]


@st.composite
def equations(draw: st.DrawFn) -> Drawn:
    """Up to three terms with repeated letters, axes of 1 that are stretched, and `...` of up to two axes."""
    lead = draw(st.lists(st.sampled_from((1, 2, 5)), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.lists(st.sampled_from(sorted(SIZES)), max_size=3))
        sizes = [1 if letters.count(x) == 1 and draw(st.integers(0, 4)) == 4 else SIZES[x] for x in letters]
        if draw(st.booleans()) and lead:
            place, hidden = draw(st.integers(0, len(letters))), draw(st.integers(0, len(lead)))
            dots = [draw(st.sampled_from((size, 1))) for size in lead[len(lead) - hidden :]]
            letters.insert(place, "...")
            sizes = [*sizes[:place], *dots, *sizes[place:]]
        terms.append("".join(letters))
        shapes.append(tuple(sizes))
    used = sorted({letter for term in terms for letter in term if letter != "."})
    arrow = ""
    if draw(st.booleans()):
        kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        has_dots = int(any("..." in term for term in terms) and draw(st.booleans()))
        where = draw(st.integers(0, len(kept)))
        arrow = "->" + "".join([*kept[:where], *["..."] * has_dots, *kept[where:]])
    space = draw(st.sampled_from(("", " ")))
    return Drawn(f",{space}".join(terms) + arrow, tuple(shapes))


def graph(equation: str, shapes: tuple[tuple[int, ...], ...]) -> BlueprintIR:
    build = Builder("sum")
    operands = [build.input(f"x{i}", TensorType(DType.F64, shape)) for i, shape in enumerate(shapes)]
    return build.finish({"y": build.op("einsum", *operands, equation=equation)})


@given(equations(), st.integers(0, 1000))
def test_results_and_gradients_are_torchs(drawn: Drawn, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    operands = [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in drawn.shapes
    ]
    y = torch.einsum(drawn.equation, *operands)
    ir = graph(drawn.equation, drawn.shapes)
    assert ir.type(ir.outputs[0][1]).shape == tuple(y.shape)
    g = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    gradients = torch.autograd.grad(y, operands, g)
    given_values = {f"x{i}": x.detach() for i, x in enumerate(operands)} | {"grad.y": g}
    found = evaluate(joint_graph(ir), given_values, {})
    close(found["y"], y.detach())
    for index, gradient in enumerate(gradients):
        close(found[f"grad.x{index}"], gradient)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE * 100)


@given(equations())
def test_a_letter_that_is_summed_over_is_never_an_axis_of_a_product_of_all(drawn: Drawn) -> None:
    """What a matrix product can sum is no larger tensor first: only outer products without a sum multiply."""
    expanded = run_passes(graph(drawn.equation, drawn.shapes), "expand")
    for node in expanded.of("mul"):
        assert not any(reader.op == "sum" for reader in expanded.users(node.name))


def test_common_equations_are_one_product_without_copies() -> None:
    cases = {
        "bij,bjk->bik": ("bij", "bjk"), "bij,bkj->bik": ("bij", "bkj"), "ij,kj": ("ij", "kj"),
        "ji,jk->ik": ("ji", "jk"), "bhtd,bhsd->bhts": ("bhtd", "bhsd"),
    }  # fmt: skip
    for equation, terms in cases.items():
        sizes = {letter: size for size, letter in enumerate("bhtsdijk", 2)}
        shapes = tuple(tuple(sizes[letter] for letter in term) for term in terms)
        ops = [node.op for node in run_passes(graph(equation, shapes)).nodes]
        assert ops.count("matmul") == 1 and set(ops) == {"input", "matmul"}, equation


SOURCE = """
blueprint scores() {
    input x: f32[N, T, 6]
    input w: f32[6, 2, 4]
    q = einsum(x, w, equation="ntf,fhd->nhtd")
    s = einsum(q, q, equation="nhtd, nhsd -> nhts") |> softmax()
    output y = s |> einsum(q, equation="...ts,...sd->...td") |> einsum(w, equation="nhtd,fhd->ntf")
}
"""


def by_hand(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    q = torch.einsum("ntf,fhd->nhtd", x, w)
    s = torch.softmax(q @ q.mT, -1)
    return torch.einsum("nhtd,fhd->ntf", s @ q, w)


def test_a_source_compiles_to_products_and_runs_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "scores.esp"
    path.write_text(SOURCE)
    ir = lower(path)
    prepared = run_passes(ir)
    module, w = graph_module(prepared), torch.randn(6, 2, 4)
    for batch, length in ((1, 1), (3, 7)):
        x = torch.randn(batch, length, 6)
        torch.testing.assert_close(call(module, prepared, {"x": x, "w": w})[0], by_hand(x, w))
    programs = make_programs(ir)
    assert programs.forward.outside == ()
    assert verify_programs(programs, sizes={"N": 2, "T": 3}).ok


@pytest.mark.parametrize(
    ("equation", "types", "expected"),
    [
        ("ni,ij->nj", ["f32[N, C]", "f32[C, 2*D]"], "f32[N, 2*D]"),
        ("...i,ij", ["f32[N, T, 4]", "f32[4, 3]"], "f32[N, T, 3]"),
        ("nii->ni", ["f32[N, 4, 4]"], "f32[N, 4]"),
        ("b, Ab", ["f32[3]", "f32[N, 1]"], "f32[N]"),
        (",i->i", ["f32[]", "f32[N]"], "f32[N]"),
    ],
)
def test_sizes_follow_the_symbols(equation: str, types: list[str], expected: str) -> None:
    assert str(infer(equation, types)) == expected


@pytest.mark.parametrize(
    ("equation", "types", "message"),
    [
        ("ij,jk->iz", ["f32[2, 3]", "f32[3, 4]"], "`z` after `->` in `ij,jk->iz` is in no term before it"),
        ("ij->ii", ["f32[2, 3]"], "`i` stands twice after `->` in `ij->ii`"),
        ("i1->i", ["f32[2, 3]"], "`1` in the term `i1` of `equation` is no letter from a to z or A to Z"),
        ("ié->i", ["f32[2, 3]"], "in the term `ié` of `equation` is no letter"),
        ("i..->i", ["f32[2, 3]"], "`.` in the term `i..` of `equation` is no letter"),
        ("......", ["f32[2, 3]"], "`.` in the term `......`"),
        ("ij->i->j", ["f32[2, 3]"], "`-` in the term `i->j`"),
        ("ij,jk->ik", ["f32[2, 3]"], "`ij,jk->ik` has 2 terms and there are 1 operands"),
        ("ij,jk->ik", ["f32[2, 3]", "f32[4, 5]"], "`j` is 3 in one operand and 4 in another"),
        ("...i,...->i", ["f32[2, 3]", "f32[4]"], "`...` is 2 in one operand and 4 in another"),
        ("ijk->i", ["f32[2, 3]"], "the term `ijk` names 3 axes, and its operand is f32[2, 3]"),
        ("...ijk->i", ["f32[2, 3]"], "the term `...ijk` names 3 axes, and its operand is f32[2, 3]"),
        ("i->i", ["f32[2, 3]"], "the term `i` names 1 axes, and its operand is f32[2, 3]"),
        ("ii->i", ["f32[2, 3]"], "`i` is 2 in one operand and 3 in another"),
        ("ii->i", ["f32[N, N]"], "`i` stands twice in a term, for an axis of N: a diagonal needs a number"),
        ("ii,i->i", ["f32[1, 1]", "f32[3]"], "`i` stands twice in a term, for axes of 1 and 3"),
        ("i,i->i", ["f32[N]", "f32[M]"], "`i` is N in one operand and M in another"),
        ("i,i->i", ["f32[N]", "bf16[N]"], "the dtypes differ"),
        ("i->i", ["i64[N]"], "expected a floating dtype"),
        ("->i", ["f32[]"], "`i` after `->` in `->i` is in no term before it"),
    ],
)
def test_a_bad_equation_is_refused_by_its_letter(equation: str, types: list[str], message: str) -> None:
    with pytest.raises(TypeRuleViolated) as caught:
        infer(equation, types)
    assert message in str(caught.value)


def test_a_bad_equation_in_a_source_has_a_place(tmp_path: Path) -> None:
    path = tmp_path / "net.esp"
    path.write_text(
        'blueprint net() {\n    input x: f32[N, 8]\n    output y = einsum(x, equation="ij->k")\n}\n'
    )
    with pytest.raises(BlueprintRejected, match=r"net\.esp:3:16: error\[E0301\]: `einsum`: `k` after `->`"):
        lower(path)


def test_the_cost_of_a_product_is_that_of_matmul() -> None:
    types = (parse_type("f32[N, 4, 5]"), parse_type("f32[N, 5, 6]"))
    costs = []
    for operator, attrs in (
        ("einsum", {"equation": "bij,bjk->bik"}),
        ("matmul", {"transpose_a": False, "transpose_b": False}),
    ):
        entry = OPERATORS[operator]
        assert entry.cost is not None and entry.infer is not None
        site = Site(entry, types, attrs)
        costs.append(entry.cost(Site(entry, types, attrs, tuple(entry.infer(site)))))
    assert costs[0] == costs[1]
    assert isinstance(OPERATORS["einsum"].lowering, Composite)


def infer(equation: str, types: list[str]) -> TensorType:
    build = Builder("b")
    operands = [build.input(f"x{index}", parse_type(text)) for index, text in enumerate(types)]
    return build.type(build.op("einsum", *operands, equation=equation))
