"""Which call makes a node: its arguments, found again from the weights that the node reads.

The graph keeps of a call what its operator needs to run. Arguments that only say which weights to make, such
as a layer's `features`, are gone; but the weights are there, and an entry says which a call would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, REQUIRED, AttrValue, Creation, Input, Kind, Role
from esper.ir.types import DType, TensorType

Arguments = Mapping[str, AttrValue]

_STATE = {Role.PARAM: "param", Role.BUFFER: "buffer"}


def call_arguments(ir: BlueprintIR, node: Node) -> Arguments | None:
    """All arguments of the call that makes `node` with weights of its types, those in the graph among them.

    How the weights begin is left out, but for `init`. None where no call makes such weights.
    """
    entry = OPERATORS[node.op]
    made = [
        (entry.input_of(index), value)
        for index, value in enumerate(node.operands)
        if entry.input_of(index).role in _STATE
    ]
    given = [(declared, value) for declared, value in made if value is not None]
    if any(ir.node(value.node).op != _STATE[declared.role] for declared, value in given):
        return None
    hidden = [one for one in entry.attributes if not one.stored]
    fixed: dict[str, AttrValue] = {**node.attrs}
    fixed |= {one.name: one.default for one in hidden if one.default is not REQUIRED}
    fixed |= {declared.when: value is not None for declared, value in made if declared.when is not None}
    if "init" in fixed:
        fixed["init"] = _chosen_init(ir, given)
    sought = [one.name for one in hidden if one.kind in (Kind.DIM, Kind.INT)]
    sizes = sorted({size for _, value in given for size in ir.type(value).shape}, key=str)
    operands = [None if value is None else ir.type(value) for value in node.operands]
    for values in product(sizes, repeat=len(sought)):
        arguments = {**fixed, **dict(zip(sought, values, strict=True))}
        creation = creation_of(node, operands, arguments)
        try:
            shapes = [None if one.shape is None else one.shape(creation) for one, _ in given]
        except (EsperError, ArithmeticError, IndexError):  # numbers that no call could have
            continue
        if shapes == [ir.type(value).shape for _, value in given] and _is_called_for(made, arguments):
            return arguments
    return None


def creation_of(node: Node, operands: Sequence[TensorType | None], arguments: Arguments) -> Creation:
    """What the rules for the weights of `node` see where it has operands of these types."""
    entry = OPERATORS[node.op]
    named = {entry.input_of(index).name: type for index, type in enumerate(operands) if type is not None}
    return Creation(named, arguments)


def strange_weight(ir: BlueprintIR, node: Node, arguments: Arguments, otherwise: DType) -> str | None:
    """What of the weights of `node` is not as the call with `arguments` would make it; None if nothing is.

    otherwise: of the weights of a call without floating operands.
    """
    entry = OPERATORS[node.op]
    operands = [None if value is None else ir.type(value) for value in node.operands]
    creation = creation_of(node, operands, arguments)
    tensors = [
        type for index, type in enumerate(operands) if type and entry.input_of(index).role is Role.TENSOR
    ]
    floating = next((type.dtype for type in tensors if type.dtype.is_floating), otherwise)
    for index, value in enumerate(node.operands):
        declared = entry.input_of(index)
        if value is None or declared.role not in _STATE:
            continue
        weight = ir.node(value.node)
        dtype = DType.F32 if declared.role is Role.BUFFER else floating
        if weight.type.dtype is not dtype:
            return f"`{weight.name}` is {weight.type}, and a call makes {dtype}"
        init = _init(declared, str(arguments.get("init", "")))
        if weight.attrs["init"] != init:
            return f"`{weight.name}` begins with {weight.attrs['init']}, and a call with {init}"
        if declared.role is Role.PARAM:
            fan_in = 1 if declared.fan_in is None else declared.fan_in(creation)
            if (weight.attrs["fan_in"], weight.attrs["gain"]) != (fan_in, 1.0):
                return f"`{weight.name}` begins at a scale that a call does not choose"
        if len(ir.users(weight.name)) > 1 or node.operands.count(value) > 1:
            return f"`{weight.name}` is read several times, and each call makes weights of its own"
    return None


def _chosen_init(ir: BlueprintIR, given: Sequence[tuple[Input, Value]]) -> str:
    for declared, value in given:
        if declared.name == "weight":
            found = str(ir.node(value.node).attrs["init"])
            return "" if found == declared.init else found
    return ""


def _init(declared: Input, chosen: str) -> str:
    """How the operand begins in a call with `init=chosen`, or without where that is empty."""
    is_last = declared.name == "weight" or (declared.name == "bias" and chosen == "zeros")
    return chosen if chosen and is_last and declared.role is Role.PARAM else declared.init


def _is_called_for(made: Sequence[tuple[Input, Value | None]], arguments: Arguments) -> bool:
    """Whether a call with `arguments` makes those of the weights that are there, and no others."""
    return all(
        (value is not None) == (declared.when is None or bool(arguments[declared.when]))
        for declared, value in made
    )
