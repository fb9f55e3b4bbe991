"""The syntax tree of a blueprint file: frozen dataclasses, each with the span that it came from.

Expressions are static values and tensors alike; elaboration tells them apart. `depth` counts nesting, so
that whoever walks a tree recursively knows the bound: a chain of `+` or `|>` nests only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from esper.errors import Span


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


@dataclass(frozen=True, slots=True)
class Branch:
    """`name => expression`"""

    span: Span
    name: Name
    value: Expression


@dataclass(frozen=True, slots=True)
class Choice:
    """`choice kind { glu => …, mlp => … }`: the branch that the parameter `kind` names, else the first."""

    span: Span
    name: Name
    branches: tuple[Branch, ...]
    depth: int = field(compare=False)


Expression = Name | Integer | Real | Text | Truth | Sizes | Unary | Binary | Call | Pipeline | Choice


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
    """`name = expression`: binds a tensor, or binds it anew; several names take a call's results in order."""

    span: Span
    names: tuple[Name, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Output:
    span: Span
    name: Name | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat n as i { … }`: the body `n` times, `i` from 0."""

    span: Span
    count: Expression
    index: Name | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    """`if condition { … } else { … }`, decided when the blueprint is elaborated."""

    span: Span
    condition: Expression
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Precision:
    """`precision bf16`: the dtype of inputs declared f32, unless the caller asks for another."""

    span: Span
    dtype: Name


@dataclass(frozen=True, slots=True)
class Constraint:
    """`constraint latency_ms <= 0.2 on "sm_90"`: a bound that a search keeps."""

    span: Span
    quantity: Name
    comparison: str
    bound: Expression
    target: Text | None


Statement = Require | Let | Input | Binding | Output | Repeat | If | Precision | Constraint


@dataclass(frozen=True, slots=True)
class Domain:
    """`in {…}`: the values that a search may choose from, and the only ones a parameter takes."""

    span: Span
    choices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`in low..high step s log`: a domain by its bounds, both included; step and scale may be absent."""

    span: Span
    low: Expression
    high: Expression
    step: Expression | None
    scale: Name | None


@dataclass(frozen=True, slots=True)
class Parameter:
    span: Span
    name: Name
    kind: Name
    default: Expression | None
    domain: Domain | Range | None
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

    @property
    def choices(self) -> tuple[Parameter, ...]:
        """The parameters that `choice` expressions make: a branch by its name, by default the first."""
        found: dict[str, Choice] = {}
        for expression in expressions_in(self.body):
            if isinstance(expression, Choice):
                found.setdefault(expression.name.text, expression)
        return tuple(map(_chooses, found.values()))


def _chooses(choice: Choice) -> Parameter:
    names = {branch.name.text: branch.name.span for branch in reversed(choice.branches)}
    texts = tuple(Text(span, name) for name, span in reversed(names.items()))
    kind = Name(choice.name.span, "choice")
    return Parameter(choice.name.span, choice.name, kind, texts[0], Domain(choice.span, texts))


@dataclass(frozen=True, slots=True)
class Import:
    """`import "mlp.esp"`, a file beside this one or below, or `import mlp_block`, from the library."""

    span: Span
    source: Text | Name


@dataclass(frozen=True, slots=True)
class Program:
    """A file's imports and blueprints, in order."""

    file: str
    blueprints: tuple[Blueprint, ...]
    imports: tuple[Import, ...] = ()


def depth_of(expression: Expression | Spread) -> int:
    """How deep `expression` nests; a name or number is 1."""
    if isinstance(expression, Sizes | Unary | Binary | Call | Pipeline | Choice):
        return expression.depth
    return 1


def left_spine(expression: Binary) -> tuple[Expression, list[Binary]]:
    """The first operand of a chain such as `a + b + c`, and its operators from the inside out."""
    chain = [expression]
    while isinstance(chain[-1].left, Binary):
        chain.append(chain[-1].left)
    return chain[-1].left, chain[::-1]


def expressions_in(statements: Iterable[Statement]) -> Iterator[Expression]:
    """All expressions in `statements`, blocks and parts of expressions included, without recursion."""
    pending: list[Statement | Expression | Spread] = []
    pending += [*statements][::-1]
    while pending:
        node = pending.pop()
        if isinstance(node, Expression):
            yield node
            pending.extend(parts_of(node)[::-1])
            continue
        match node:
            case Require(condition=value) | Let(value=value) | Binding(value=value) | Output(value=value):
                pending.append(value)
            case Constraint(bound=value):
                pending.append(value)
            case Input(type=type):
                pending.append(type.shape)
            case Repeat(count=count, body=body):
                pending += [*body[::-1], count]
            case If(condition=condition, body=body, otherwise=otherwise):
                pending += [*otherwise[::-1], *body[::-1], condition]
            case Spread() | Precision():
                pass


def bound_in(statements: Iterable[Statement]) -> Iterator[Name]:
    """The names of tensors that `statements` bind, blocks included."""
    pending = [*statements][::-1]
    while pending:
        match pending.pop():
            case Binding(names=names):
                yield from names
            case Repeat(body=body):
                pending += body[::-1]
            case If(body=body, otherwise=otherwise):
                pending += [*otherwise[::-1], *body[::-1]]
            case _:
                pass


def declared_in(blueprint: Blueprint) -> Iterator[Name]:
    """The names that `blueprint` binds: its parameters, then those of its statements, blocks included."""
    yield from (parameter.name for parameter in blueprint.parameters)
    pending = [*blueprint.body][::-1]
    while pending:
        match pending.pop():
            case Binding(names=names):
                yield from names
            case Let(name=name) | Input(name=name):
                yield name
            case Repeat(body=body, index=index):
                if index is not None:
                    yield index
                pending += body[::-1]
            case If(body=body, otherwise=otherwise):
                pending += [*otherwise[::-1], *body[::-1]]
            case _:
                pass


def parts_of(expression: Expression) -> Sequence[Expression | Spread]:
    """What `expression` is made of, in the order of the source."""
    match expression:
        case Sizes(items=items):
            return items
        case Unary(operand=operand):
            return [operand]
        case Binary(left=left, right=right):
            return [left, right]
        case Call(arguments=arguments):
            return [argument.value for argument in arguments]
        case Pipeline(source=source, steps=steps):
            return [source, *steps]
        case Choice(branches=branches):
            return [branch.value for branch in branches]
        case _:
            return []


def subexpressions(expression: Expression) -> Iterator[Expression | Spread]:
    """`expression` and its parts, in the order of the source, without recursion."""
    pending: list[Expression | Spread] = [expression]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(parts_of(node)[::-1] if not isinstance(node, Spread) else [])


def written_of(parameter: Parameter) -> list[Expression]:
    """What `parameter` is declared by: its default, and the expressions of its domain."""
    domain = parameter.domain
    parts: list[Expression | None] = [parameter.default]
    if isinstance(domain, Range):
        parts += [domain.low, domain.high, domain.step]
    elif domain is not None:
        parts += domain.choices
    return [part for part in parts if part is not None]


def names_of(parameter: Parameter) -> tuple[str, ...]:
    """What its default and its domain read, each name once."""
    return tuple(dict.fromkeys(name.text for part in written_of(parameter) for name in names_in(part)))


def names_in(expression: Expression) -> Iterator[Name]:
    """All names that `expression` reads, called operators included, without recursion."""
    pending: list[Expression | Spread] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Spread):
            yield node.name
            continue
        if isinstance(node, Name):
            yield node
        elif isinstance(node, Call):
            yield node.function
        pending.extend(parts_of(node))


def own_names(node: Expression) -> Iterator[str]:
    """The name that `node` is or calls, its parts aside."""
    if isinstance(node, Name):
        yield node.text
    elif isinstance(node, Call):
        yield node.function.text
