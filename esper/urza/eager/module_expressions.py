"""How an operator is written in a module for people: an expression over its operands.

What has no row here is a call of the function that its entry names: torch's own, or one that the module
carries with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.urza.eager.module_layout import Call, Expression

Operands = list[str]
Attributes = Mapping[str, str]
Write = Callable[[Operands, Attributes], Expression]


def _infix(sign: str) -> Write:
    return lambda operands, attrs: f"{operands[0]} {sign} {operands[1]}"


def _function(name: str, *attributes: str) -> Write:
    """A call with the operands, then `attributes` by position, or as `torch_name=ours` under torch's name."""

    def write(operands: Operands, attrs: Attributes) -> Expression:
        given = []
        for attribute in attributes:
            theirs, _, ours = attribute.rpartition("=")
            given.append(f"{theirs}={attrs[ours]}" if theirs else attrs[ours])
        return Call(name, (*operands, *given))

    return write


def _method(name: str, *attributes: str) -> Write:
    """A call of the first operand's method with `attributes`; lists are given item by item."""

    def write(operands: Operands, attrs: Attributes) -> Expression:
        given = tuple(item for attribute in attributes for item in _items(attrs[attribute]))
        return Call(f"{operands[0]}.{name}", given)

    return write


def _items(text: str) -> tuple[str, ...]:
    if not text.startswith("("):
        return (text,)
    return tuple(item for item in text[1:-1].rstrip(",").split(", ") if item)


def _matmul(operands: Operands, attrs: Attributes) -> Expression:
    flags = attrs["transpose_a"], attrs["transpose_b"]
    a, b = (f"{o}.mT" if flag == "True" else o for o, flag in zip(operands, flags, strict=True))
    return f"{a} @ {b}"


def _join(name: str) -> Write:
    return lambda operands, attrs: Call(name, (f"[{', '.join(operands)}]", f"dim={attrs['axis']}"))


def _reduce(name: str) -> Write:
    def write(operands: Operands, attrs: Attributes) -> Expression:
        keep = ("keepdim=True",) if attrs["keepdims"] == "True" else ()
        return Call(f"{operands[0]}.{name}", (f"dim={attrs['axes']}", *keep))

    return write


def _chunk(operands: Operands, attrs: Attributes) -> Expression:
    return Call(f"{operands[0]}.chunk", (attrs["chunks"], f"dim={attrs['axis']}"), f"[{attrs['index']}]")


def _slice(operands: Operands, attrs: Attributes) -> Expression | None:
    axes, start, stop, step = (_items(attrs[name]) for name in ("axes", "start", "stop", "step"))
    if any(axis.startswith("-") for axis in axes):
        return None
    places = [":"] * (1 + max(map(int, axes)))
    for index, axis in enumerate(axes):
        low, high = (part[index] if part else "" for part in (start, stop))
        places[int(axis)] = f"{low}:{high}" + (f":{step[index]}" if step and step[index] != "1" else "")
    return f"{operands[0]}[{', '.join(places)}]"


def _pad(operands: Operands, attrs: Attributes) -> Expression:
    value = () if attrs["value"] == "0.0" else (f"value={attrs['value']}",)
    return Call("F.pad", (operands[0], attrs["pad"], *value))


INFIX = frozenset({"add", "sub", "mul", "div"})
"""Operators that take a number where a constant stands in the graph."""

WRITTEN: Mapping[str, Write] = {
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _infix("/"),
    "matmul": _matmul,
    "concat": _join("torch.cat"),
    "stack": _join("torch.stack"),
    "linear": _function("F.linear"),
    "relu": _function("F.relu"),
    "sigmoid": _function("torch.sigmoid"),
    "tanh": _function("torch.tanh"),
    "gelu": _function("F.gelu"),
    "silu": _function("F.silu"),
    "leaky_relu": _function("F.leaky_relu", "negative_slope"),
    "softmax": _function("torch.softmax", "dim=axis"),
    "log_softmax": _function("torch.log_softmax", "dim=axis"),
    "glu": _function("F.glu", "dim=axis"),
    "embedding": _function("F.embedding"),
    "reshape": _method("reshape", "shape"),
    "permute": _method("permute", "axes"),
    "transpose": _method("transpose", "axis0", "axis1"),
    "flatten": _method("flatten", "start", "end"),
    "squeeze": _method("squeeze", "axes"),
    "unsqueeze": _method("unsqueeze", "axis"),
    "broadcast_to": _method("expand", "shape"),
    "cast": _method("to", "dtype"),
    "flip": _method("flip", "axes"),
    "chunk": _chunk,
    "sum": _reduce("sum"),
    "mean": _reduce("mean"),
    "amax": _reduce("amax"),
    "amin": _reduce("amin"),
}
