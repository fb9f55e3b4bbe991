"""Every entry of the operator table is complete, and its parts agree with each other."""

from __future__ import annotations

import ast
import inspect
import re
import string
from importlib.resources import files

import pytest
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR
from esper.ir.dims import evaluate_size
from esper.ir.graph import NAME
from esper.ir.operator import OPERATORS, REQUIRED, Composite, Leaf, Operator, Pointwise, Role, Site
from esper.ir.verify import attribute_fits
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate, reference
from esper.testing import blueprint_irs, random_values

ENTRIES = tuple(OPERATORS.values())
COMPUTED = tuple(entry for entry in ENTRIES if not isinstance(entry.lowering, Leaf))
POINTWISE = tuple(entry for entry in ENTRIES if isinstance(entry.lowering, Pointwise))

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
each_computed = pytest.mark.parametrize("entry", COMPUTED, ids=lambda entry: entry.name)
each_pointwise = pytest.mark.parametrize("entry", POINTWISE, ids=lambda entry: entry.name)


@each_entry
def test_an_entry_says_what_it_does(entry: Operator) -> None:
    assert entry.doc.endswith((".", "`", ")")), entry.doc
    assert all(attribute.doc for attribute in entry.attributes)
    names = [*(i.name for i in entry.inputs), *(a.name for a in entry.attributes if a.stored)]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in (entry.name, *names, *entry.results))


@each_computed
def test_an_entry_has_all_its_parts(entry: Operator) -> None:
    assert entry.infer is not None
    assert entry.reference is not None
    assert entry.cost is not None
    assert entry.sample is not None
    assert entry.results


@each_entry
def test_an_entry_has_a_gradient_or_says_why_not(entry: Operator) -> None:
    assert (entry.vjp is None) == bool(entry.no_gradient)


@each_computed
def test_a_reference_is_called_with_the_operands_and_attributes(entry: Operator) -> None:
    paths = [path for path in (entry.reference, entry.first_result_reference) if path is not None]
    for function in map(reference, paths):
        try:
            signature = inspect.signature(function)
        except ValueError:
            continue  # one of torch's built-in functions
        signature.bind(*entry.inputs, **{a.name: a.default for a in entry.attributes if a.stored})


@each_entry
def test_created_operands_have_a_shape_rule_and_a_flag_that_exists(entry: Operator) -> None:
    for operand in entry.inputs:
        created = operand.role in (Role.PARAM, Role.BUFFER)
        assert (operand.shape is not None) == (created and entry.in_language)
        flag = None if operand.when is None else entry.attribute(operand.when)
        assert operand.optional == (flag is not None) or not created or not entry.in_language
        assert flag is None or not flag.stored


@each_entry
def test_a_default_is_of_its_attributes_kind(entry: Operator) -> None:
    for attribute in entry.attributes:
        if attribute.default is not REQUIRED:
            assert not isinstance(attribute.default, type(REQUIRED))
            assert attribute_fits(attribute, attribute.default)


@each_entry
def test_updates_name_a_result_and_a_buffer(entry: Operator) -> None:
    for result, operand in entry.updates.items():
        assert result < len(entry.results)
        assert entry.inputs[operand].role is Role.BUFFER


@each_pointwise
def test_the_names_in_an_expression_exist(entry: Operator) -> None:
    assert isinstance(entry.lowering, Pointwise)
    known = {i.name for i in entry.inputs} | {a.name for a in entry.attributes if a.stored} | {"index"}
    fields = {
        name for _, name, _, _ in string.Formatter().parse(entry.lowering.expression) if name is not None
    }
    assert fields <= known
    source = re.sub(r"\{(\w+)\}", r"\1", entry.lowering.expression)
    called = {node.func for node in ast.walk(ast.parse(source, mode="eval")) if isinstance(node, ast.Call)}
    for function in called:
        if isinstance(function, ast.Attribute):
            assert ast.unparse(function.value) == "tl" and hasattr(tl, function.attr), ast.unparse(function)
        else:
            assert ast.unparse(function) in kernel_functions(), ast.unparse(function)


def kernel_functions() -> set[str]:
    """The names of the Triton functions that expressions may call."""
    tree = ast.parse((files("esper.kernels") / "functions.py").read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


@each_computed
@settings(max_examples=20)
@given(data=st.data())
def test_references_return_what_the_type_rule_says(entry: Operator, data: st.DataObject) -> None:
    ir = all_results(data.draw(blueprint_irs(operators=[entry.name], max_nodes=1)), entry)
    values = random_values(ir)
    found = evaluate(ir, values.inputs, values.weights, seed=1)
    for name, value in ir.outputs:
        type = ir.type(value)
        assert found[name].dtype is TORCH_DTYPES[type.dtype]
        assert tuple(found[name].shape) == type.concrete_shape(values.sizes)


@each_computed
@settings(max_examples=10)
@given(data=st.data())
def test_costs_are_sizes_of_the_graphs_symbols(entry: Operator, data: st.DataObject) -> None:
    ir = data.draw(blueprint_irs(operators=[entry.name], max_nodes=1))
    sizes = random_values(ir).sizes
    assert entry.cost is not None
    for node in ir.of(entry.name):
        types = tuple(None if o is None else ir.type(o) for o in node.operands)
        cost = entry.cost(Site(entry, types, node.attrs, node.types))
        figures = [evaluate_size(size, sizes) for size in (cost.flops, cost.read, cost.written)]
        assert all(figure >= 0 for figure in figures)


def test_composites_leave_differentiation_to_their_definitions() -> None:
    for entry in OPERATORS.values():
        if isinstance(entry.lowering, Composite):
            assert entry.no_gradient == "`expand` replaces it by its definition"


def all_results(ir: BlueprintIR, entry: Operator) -> BlueprintIR:
    """`ir` with every result of each use of `entry` for an output."""
    outputs = [
        (f"{node.name}.r{result.index}", result) for node in ir.of(entry.name) for result in node.results
    ]
    return ir.replace(outputs=outputs, updates=())
