"""Every name of a source with what it does there, and which binding a use of it means.

Read off the syntax tree alone, so that it also holds for blocks that a check does not elaborate and for
sources with mistakes. Tensors live in the blueprint's one scope; `let` and indices in their block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from esper.lang.ast import (
    Binding,
    Blueprint,
    Call,
    Choice,
    Constraint,
    Domain,
    Expression,
    If,
    Import,
    Input,
    Let,
    Name,
    Output,
    Parameter,
    Precision,
    Program,
    Range,
    Repeat,
    Require,
    Spread,
    Statement,
    subexpressions,
)
from esper.lang.scope import Place, What

Block = tuple[tuple[Place, int], ...]
"""The statements around a place, from the outermost, each with the number of its block."""

BEGINNING: Place = (0, 0)


class Role(Enum):
    """What a name does where it stands."""

    BINDING = auto()
    READ = auto()
    CALL = auto()
    ARGUMENT = auto()  # the name of a keyword argument
    VALUE = auto()  # all of a keyword argument's value
    KIND = auto()
    TYPE = auto()
    QUANTITY = auto()
    BRANCH = auto()
    OUTPUT = auto()
    BLUEPRINT = auto()
    IMPORT = auto()
    SCALE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Occurrence:
    """One name in the source.

    what, visible: of a binding, as what, and from where on the name can be read. call, argument: the call
    that it belongs to, and the keyword argument. node: the parameter or statement that it stands in.
    """

    name: Name
    role: Role
    blueprint: Blueprint | None = None
    block: Block = ()
    what: What | None = None
    visible: Place = BEGINNING
    call: Call | None = None
    argument: str = ""
    node: Parameter | Statement | None = None

    @property
    def place(self) -> Place:
        return self.name.span.line, self.name.span.column

    def hides(self, other: Occurrence) -> bool:
        """Whether this binding cannot be what `other` means, wherever the two stand."""
        if self.what in (What.LET, What.INDEX):
            return self.block != other.block[: len(self.block)]
        pairs = zip(self.block, other.block, strict=False)
        statement, arm = next(((mine, yours) for mine, yours in pairs if mine != yours), (None, None))
        return statement is not None and arm is not None and statement[0] == arm[0]


@dataclass(slots=True)
class Names:
    """All occurrences of one program."""

    program: Program
    by_line: dict[int, list[Occurrence]] = field(default_factory=dict)
    bindings: dict[tuple[Place, str], list[Occurrence]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for statement in self.program.imports:
            if isinstance(statement.source, Name):
                self._add(Occurrence(statement.source, Role.IMPORT))
        for blueprint in self.program.blueprints:
            _Walk(self, blueprint).blueprint_names()

    def __iter__(self) -> Iterator[Occurrence]:
        return (occurrence for line in self.by_line.values() for occurrence in line)

    def at(self, place: Place) -> Occurrence | None:
        """The name that covers `place`, or ends just before it."""
        line, column = place
        touching = [
            occurrence
            for occurrence in self.by_line.get(line, [])
            if occurrence.name.span.column <= column <= occurrence.name.span.end_column
        ]
        return max(touching, key=lambda occurrence: occurrence.name.span.column, default=None)

    def binding_of(self, use: Occurrence) -> Occurrence | None:
        """The binding that a name means: the last one that can be read there, else the first of that name."""
        if use.role is Role.BINDING:
            return use
        if use.blueprint is None:
            return None
        found = [b for b in self.bindings.get(_key(use.blueprint, use.name), []) if not b.hides(use)]
        readable = [binding for binding in found if binding.visible <= use.place]
        if readable or isinstance(use.node, Parameter):  # which reads the parameters before it alone
            return max(readable, key=lambda b: b.visible, default=None)
        return next(iter(found), None)

    def visible_at(self, blueprint: Blueprint, place: Place, block: Block) -> Iterator[Occurrence]:
        """The binding of each name that can be read at `place`."""
        here = blueprint.name.span
        for (start, _), found in self.bindings.items():
            if start != (here.line, here.column):
                continue
            probe = Occurrence(found[0].name, Role.READ, blueprint, block)
            readable = [b for b in found if b.visible <= place and not b.hides(probe)]
            if readable:
                yield max(readable, key=lambda b: b.visible)

    def _add(self, occurrence: Occurrence) -> None:
        self.by_line.setdefault(occurrence.name.span.line, []).append(occurrence)
        if occurrence.role is Role.BINDING and occurrence.blueprint is not None:
            self.bindings.setdefault(_key(occurrence.blueprint, occurrence.name), []).append(occurrence)


def block_at(blueprint: Blueprint, place: Place) -> Block:
    """The blocks around `place`."""
    block: Block = ()
    statements: Iterable[Statement] = blueprint.body
    while True:
        around = [s for s in statements if isinstance(s, If | Repeat) and _start(s) <= place < _end(s)]
        if not around:
            return block
        statement = around[0]
        arm = int(isinstance(statement, If) and _is_in_else(statement, place))
        block += ((_start(statement), arm),)
        statements = statement.otherwise if isinstance(statement, If) and arm else statement.body


def _is_in_else(statement: If, place: Place) -> bool:
    return bool(statement.otherwise) and place >= _start(statement.otherwise[0])


def _key(blueprint: Blueprint, name: Name) -> tuple[Place, str]:
    return (blueprint.name.span.line, blueprint.name.span.column), name.text


def _start(node: Statement | Parameter) -> Place:
    return node.span.line, node.span.column


def _end(node: Statement | Parameter | Name) -> Place:
    return node.span.end_line, node.span.end_column


class _Walk:
    """Collects one blueprint's names, in the order of the source."""

    def __init__(self, names: Names, blueprint: Blueprint) -> None:
        self.names = names
        self.blueprint = blueprint
        self.block: Block = ()
        self.node: Parameter | Statement | None = None

    def blueprint_names(self) -> None:
        self.names._add(Occurrence(self.blueprint.name, Role.BLUEPRINT, self.blueprint))
        for choice in self.blueprint.choices:
            self.node = choice
            self._bind(choice.name, What.PARAMETER, BEGINNING)
        for parameter in self.blueprint.parameters:
            self._parameter(parameter)
        pending: list[tuple[Statement, Block]] = [(s, ()) for s in self.blueprint.body[::-1]]
        while pending:
            statement, self.block = pending.pop()
            self.node = statement
            self._statement(statement)
            if isinstance(statement, Repeat | If):
                blocks = [statement.body, statement.otherwise if isinstance(statement, If) else ()]
                for arm, body in reversed([*enumerate(blocks)]):
                    inner = (*self.block, (_start(statement), arm))
                    pending += [(nested, inner) for nested in body[::-1]]

    def _parameter(self, parameter: Parameter) -> None:
        self.node = parameter
        self._bind(parameter.name, What.PARAMETER, _end(parameter))
        self._note(parameter.kind, Role.KIND)
        expressions = [parameter.default]
        match parameter.domain:
            case Domain(choices=choices):
                expressions += choices
            case Range(low=low, high=high, step=step, scale=scale):
                expressions += [low, high, step]
                if scale is not None:
                    self._note(scale, Role.SCALE)
        for expression in expressions:
            if expression is not None:
                self._expression(expression)

    def _statement(self, statement: Statement) -> None:
        end = _end(statement)
        match statement:
            case Require(condition=expression):
                self._expression(expression)
            case Let(name=name, value=expression):
                self._bind(name, What.LET, end)
                self._expression(expression)
            case Input(name=name, type=type):
                self._bind(name, What.INPUT, end)
                self._note(type.dtype, Role.TYPE)
                for item in type.shape.items:
                    self._size(item)
            case Binding(names=names, value=expression):
                for name in names:
                    self._bind(name, What.TENSOR, end)
                self._expression(expression)
            case Output(name=output, value=expression):
                if output is not None:
                    self._note(output, Role.OUTPUT)
                self._expression(expression)
            case Repeat(count=expression, index=index):
                self._expression(expression)
                if index is not None:
                    around = self.block
                    self.block = (*around, (_start(statement), 0))
                    self._bind(index, What.INDEX, _end(index))
                    self.block = around
            case If(condition=expression):
                self._expression(expression)
            case Precision(dtype=dtype):
                self._note(dtype, Role.TYPE)
            case Constraint(quantity=quantity, bound=expression):
                self._note(quantity, Role.QUANTITY)
                self._expression(expression)

    def _size(self, item: Expression | Spread) -> None:
        """A size of an input: a name that is not bound yet is bound by it."""
        name = item.name if isinstance(item, Spread) else item
        if not isinstance(name, Name):
            self._expression(name)
            return
        use = Occurrence(name, Role.READ, self.blueprint, self.block, node=self.node)
        binding = self.names.binding_of(use)
        if binding is None or binding.visible > use.place:
            self._bind(name, What.SIZE, _end(name))
        else:
            self.names._add(use)

    def _expression(self, expression: Expression) -> None:
        values: dict[int, tuple[Call, str]] = {}
        for part in subexpressions(expression):
            match part:
                case Name():
                    call, argument = values.get(id(part), (None, ""))
                    role = Role.READ if call is None else Role.VALUE
                    self._note(part, role, call, argument)
                case Spread(name=name):
                    self._note(name, Role.READ)
                case Call(function=function, arguments=arguments):
                    self._note(function, Role.CALL, part)
                    for named in arguments:
                        if named.name is not None:
                            values[id(named.value)] = part, named.name.text
                            self._note(named.name, Role.ARGUMENT, part, named.name.text)
                case Choice(name=name, branches=branches):
                    for branch in branches:
                        self._note(branch.name, Role.BRANCH)
                    if not any(choice.name is name for choice in self.blueprint.choices):
                        self._note(name, Role.READ)
                case _:
                    pass

    def _bind(self, name: Name, what: What, visible: Place) -> None:
        self.names._add(
            Occurrence(name, Role.BINDING, self.blueprint, self.block, what, visible, node=self.node)
        )

    def _note(self, name: Name, role: Role, call: Call | None = None, argument: str = "") -> None:
        self.names._add(
            Occurrence(name, role, self.blueprint, self.block, call=call, argument=argument, node=self.node)
        )


def import_at(program: Program, place: Place) -> Import | None:
    """The import whose path or name covers `place`."""
    for statement in program.imports:
        span = statement.source.span
        if (span.line, span.column) <= place <= (span.end_line, span.end_column):
            return statement
    return None
