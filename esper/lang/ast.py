"""The syntax tree of a blueprint file: frozen dataclasses, each with the span that it came from.

Expressions are static values and tensors alike; elaboration tells them apart. `depth` counts nesting, so
that whoever walks a tree recursively knows the bound: a chain of `+` or `|>` nests only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from esper.errors import Span

MAX_NESTING = 1000


@dataclass(frozen=True, slots=True)
class Name:
    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Integer:
    span: Span
    value: int


@dataclass(frozen=True, slots=True)
class Real:
    span: Span
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    span: Span
    value: str


@dataclass(frozen=True, slots=True)
class Truth:
    span: Span
    value: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """`...S`: the remaining axes of an input, or their sizes in a list."""

    span: Span
    name: Name


@dataclass(frozen=True, slots=True)
class Sizes:
    """`[N, channels, ...S]`: a shape, or a list of sizes as an argument."""

    span: Span
    items: tuple[Expression | Spread, ...]
    depth: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """`-` or `not`."""

    span: Span
    operator: str
    operand: Expression
    depth: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """An infix operator; `place` is the span of the operator itself. A left operand may be a long chain."""

    span: Span
    operator: str
    place: Span
    left: Expression
    right: Expression
    depth: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    span: Span
    name: Name | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Call:
    span: Span
    function: Name
    arguments: tuple[Argument, ...]
    depth: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`source |> a() |> b()`: each step's first argument is what stands before it."""

    span: Span
    source: Expression
    steps: tuple[Call, ...]
    depth: int = field(compare=False)


Expression = Name | Integer | Real | Text | Truth | Sizes | Unary | Binary | Call | Pipeline


@dataclass(frozen=True, slots=True)
class TensorTypeExpr:
    span: Span
    dtype: Name
    shape: Sizes


@dataclass(frozen=True, slots=True)
class Require:
    span: Span
    condition: Expression
    reason: Text


@dataclass(frozen=True, slots=True)
class Let:
    span: Span
    name: Name
    value: Expression


@dataclass(frozen=True, slots=True)
class Input:
    span: Span
    name: Name
    type: TensorTypeExpr


@dataclass(frozen=True, slots=True)
class Binding:
    """`name = expression`: binds a tensor, or binds it anew."""

    span: Span
    name: Name
    value: Expression


@dataclass(frozen=True, slots=True)
class Output:
    span: Span
    name: Name | None
    value: Expression


Statement = Require | Let | Input | Binding | Output


@dataclass(frozen=True, slots=True)
class Domain:
    """`in {…}`: the values that a search may choose from, and the only ones a parameter takes."""

    span: Span
    choices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    span: Span
    name: Name
    kind: Name
    default: Expression | None
    domain: Domain | None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One blueprint. `damaged` holds the names that statements with a syntax error would have bound."""

    span: Span
    name: Name
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = ""
    damaged: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A file's blueprints, in order."""

    file: str
    blueprints: tuple[Blueprint, ...]


def depth_of(expression: Expression | Spread) -> int:
    """How deep `expression` nests; a name or number is 1."""
    if isinstance(expression, Sizes | Unary | Binary | Call | Pipeline):
        return expression.depth
    return 1


def left_spine(expression: Binary) -> tuple[Expression, list[Binary]]:
    """The first operand of a chain such as `a + b + c`, and its operators from the inside out."""
    chain = [expression]
    while isinstance(chain[-1].left, Binary):
        chain.append(chain[-1].left)
    return chain[-1].left, chain[::-1]


def names_in(expression: Expression) -> Iterator[Name]:
    """All names that `expression` reads, called operators included, without recursion."""
    pending: list[Expression | Spread] = [expression]
    while pending:
        node = pending.pop()
        match node:
            case Name():
                yield node
            case Spread(name=name):
                yield name
            case Sizes(items=items):
                pending.extend(items)
            case Unary(operand=operand):
                pending.append(operand)
            case Binary(left=left, right=right):
                pending.extend((left, right))
            case Call(function=function, arguments=arguments):
                yield function
                pending.extend(argument.value for argument in arguments)
            case Pipeline(source=source, steps=steps):
                pending.append(source)
                pending.extend(steps)
            case _:
                pass
