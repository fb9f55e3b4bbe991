"""The operator entry and the table that holds all entries.

One `Operator` says everything about one operator: its signature, type rule, torch reference, gradient,
cost, how Urza lowers it, and how the random generator makes a valid use of it. `esper.ops` fills the
table; nothing here knows a particular operator.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Union

from esper.ir.dims import Dim, Size, product, simplicity, size_symbols
from esper.ir.errors import NumbersNeeded, SizesUnproved, TypeRuleViolated
from esper.ir.types import DType, TensorType

if TYPE_CHECKING:
    from esper.ir.build import Builder
    from esper.ir.graph import BlueprintIR, Node, Value

AttrValue = Union[
    bool, int, float, str, Dim, DType, "BlueprintIR", tuple[bool | int | float | str | Dim | DType, ...]
]
Attrs = Mapping[str, AttrValue]


class Role(Enum):
    """Where an operand comes from when the operator is used in a blueprint's source."""

    TENSOR = "tensor"  # written by the user
    PARAM = "param"  # a trainable weight, made by elaboration
    BUFFER = "buffer"  # a running statistic, made by elaboration
    SEED = "seed"  # the graph's one random seed


class Kind(Enum):
    """The type of an attribute."""

    DIM = "dim"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"
    DTYPE = "dtype"
    DIMS = "dims"
    GRAPH = "graph"  # a body: a graph without weights, state or randomness, in the outer graph's sizes


class _Required(Enum):
    REQUIRED = "required"


REQUIRED = _Required.REQUIRED


@dataclass(frozen=True, slots=True)
class Creation:
    """What a rule sees when a param or buffer is made: operand types so far, language arguments."""

    types: Mapping[str, TensorType]
    arguments: Attrs

    def size(self, name: str) -> Size:
        value = self.arguments[name]
        assert isinstance(value, int | Dim), name
        return value


@dataclass(frozen=True, slots=True)
class Input:
    """One operand. A variadic input takes all remaining operands and stands last."""

    name: str
    role: Role = Role.TENSOR
    optional: bool = False
    variadic: bool = False
    shape: Callable[[Creation], tuple[Size, ...]] | None = None  # of a param or buffer
    init: str = "zeros"  # its default initialiser; language argument `init` overrides that of `weight`
    fan_in: Callable[[Creation], Size] | None = None
    when: str | None = None  # made only if this boolean argument is true
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One static argument. `stored=False`: consumed when a blueprint is elaborated, absent from the IR.

    positive, unbounded: of a float, whether it is above zero, and whether it may be infinite.
    """

    name: str
    kind: Kind
    default: AttrValue | _Required = REQUIRED
    choices: tuple[str, ...] = ()
    doc: str = ""
    stored: bool = True
    positive: bool = False
    unbounded: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One use of an operator, as its type and cost rules see it."""

    op: Operator
    types: tuple[TensorType | None, ...]
    attrs: Attrs
    results: tuple[TensorType, ...] = ()

    def type(self, index: int) -> TensorType:
        found = self.types[index]
        assert found is not None, f"{self.op.name} operand {index}"
        return found

    def integer(self, name: str) -> int:
        value = self.attrs[name]
        assert isinstance(value, int), name
        return value

    def flag(self, name: str) -> bool:
        return bool(self.attrs[name])

    def number(self, name: str) -> float:
        value = self.attrs[name]
        assert isinstance(value, int | float), name
        return float(value)

    def sizes(self, name: str) -> tuple[Size, ...]:
        value = self.attrs[name]
        assert isinstance(value, tuple), name
        return tuple(size for size in value if isinstance(size, int | Dim))

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of numbers. Raises `NumbersNeeded` for a size symbol among them."""
        found = self.sizes(name)
        symbols = frozenset[str]().union(*map(size_symbols, found))
        if symbols:
            reason = f"`{name}` holds a size, expected numbers"
            raise NumbersNeeded(operator=self.op.name, reason=reason, attribute=name, symbols=symbols)
        return tuple(size for size in found if isinstance(size, int))

    def graph(self, name: str) -> BlueprintIR:
        return graph_of(self.attrs, name)

    def require(self, holds: bool, reason: str) -> None:
        """Raises `TypeRuleViolated` with `reason` unless `holds`."""
        if not holds:
            self.refuse(reason)

    def refuse(self, reason: str) -> NoReturn:
        """Raises `TypeRuleViolated`: for rules that most nodes pass, whose reasons are dear to spell."""
        raise TypeRuleViolated(operator=self.op.name, reason=reason)

    def require_size(self, operand: int, axis: int, wanted: Size, reason: str, axes: int = 1) -> None:
        """Raises `SizesUnproved` with `reason` unless operand number `operand` has that size on `axis`.

        axes: how many axes from that one on, taken together as one, have that size.
        """
        if product(self.type(operand).shape[axis:][:axes]) != wanted:
            raise SizesUnproved(
                operator=self.op.name, reason=reason, operand=operand, axis=axis, axes=axes, wanted=wanted
            )

    def require_same_size(self, one: tuple[int, int], other: tuple[int, int], reason: str) -> None:
        """`require_size` for two places (operand, axis): the simpler of two sizes is what is wanted."""
        found = self.type(one[0]).shape[one[1]]
        wanted = self.type(other[0]).shape[other[1]]
        if simplicity(found) < simplicity(wanted):
            one, wanted = other, found
        self.require_size(*one, wanted, reason)

    def require_same_shape(self, one: int, other: int, reason: str) -> None:
        """`require_same_size` for every axis. Raises `TypeRuleViolated` where the ranks differ."""
        rank = self.type(one).rank
        self.require(rank == self.type(other).rank, reason)
        for axis in range(rank):
            self.require_same_size((one, axis), (other, axis), reason)


def graph_of(attrs: Attrs, name: str) -> BlueprintIR:
    """The graph attribute called `name`."""
    value = attrs[name]
    assert not isinstance(value, bool | int | float | str | Dim | DType | tuple), name
    return value


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic and the least memory traffic of one use: flops, bytes read, bytes written."""

    flops: Size
    read: Size
    written: Size


class Differentiate(Protocol):
    """Reverse mode on a body, as the pass `autodiff` gives it to the rules of operators that own one."""

    def __call__(
        self, build: Builder, body: BlueprintIR, gradients: Mapping[str, Value], wrt: Sequence[str]
    ) -> tuple[Value | None, ...]:
        """Appends `body` to `build`, which holds its inputs under their names, and pulls gradients back.

        gradients: the gradient of each output that has one, by the output's name.
        Returns the gradients of the inputs `wrt`, None for one that no such output depends on.
        """


@dataclass(frozen=True, slots=True)
class Vjp:
    """The vector-Jacobian product of one use, as graph building.

    `gradients` holds the incoming gradient of each result (None where nothing asks for it); the rule
    returns one gradient, or None, for each operand. `needed[i]` says whether operand i's is asked for.
    `differentiate` is for operators that own a graph.
    """

    build: Builder
    node: Node
    gradients: tuple[Value | None, ...]
    needed: tuple[bool, ...]
    differentiate: Differentiate

    @property
    def operands(self) -> tuple[Value | None, ...]:
        return self.node.operands

    @property
    def attrs(self) -> Attrs:
        return self.node.attrs

    def operand(self, index: int) -> Value:
        found = self.node.operands[index]
        assert found is not None, f"{self.node.op} operand {index}"
        return found

    def result(self, index: int = 0) -> Value:
        return self.node.result(index)

    @property
    def gradient(self) -> Value:
        """The first result's incoming gradient."""
        found = self.gradients[0]
        assert found is not None, self.node.op
        return found

    def op(self, name: str, *operands: Value | float | None, **attrs: AttrValue) -> Value:
        return self.build.op(name, *operands, name=None, span=self.node.span, **attrs)

    def ops(self, name: str, *operands: Value | float | None, **attrs: AttrValue) -> tuple[Value, ...]:
        return self.build.ops(name, *operands, name=None, span=self.node.span, **attrs)

    def unbroadcast(self, gradient: Value, index: int) -> Value:
        """`gradient` summed over the axes along which operand `index` was broadcast."""
        return self.build.sum_to(gradient, self.build.type(self.operand(index)).shape)


VjpRule = Callable[[Vjp], "Sequence[Value | None]"]
Definition = Callable[["Builder", "Node"], "Sequence[Value]"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An input, parameter, buffer, constant or seed."""


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A Triton expression over `{input}` and `{attribute}` names, computed in float32 for floats.

    `{index}` is an element's place in the result, in row-major order.
    """

    expression: str

    @property
    def depends_on_place(self) -> bool:
        """Whether an element depends on where it stands, as random numbers do, and not on operands alone."""
        return "{index}" in self.expression


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction over the attribute `axes`: `sum` or `max`."""

    kind: str


@dataclass(frozen=True, slots=True)
class View:
    """Rearranges elements without arithmetic: `reshape`, `permute`, `broadcast`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Template:
    """A hand-written Triton template of `kernels/`."""

    name: str


@dataclass(frozen=True, slots=True)
class Outside:
    """Runs as PyTorch's own operator, by the entry's reference."""


@dataclass(frozen=True, slots=True)
class Decompose:
    """Torch runs the operator whole; Urza plans its definition in other operators."""

    definition: Definition


@dataclass(frozen=True, slots=True)
class Composite:
    """A shorthand: the pass `expand` always replaces it by its definition."""

    definition: Definition


Lowering = Leaf | Pointwise | Reduction | View | Template | Outside | Decompose | Composite


class Sampler(Protocol):
    """What a `sample` rule draws from; `esper.testing` implements it with Hypothesis."""

    def integer(self, low: int, high: int) -> int: ...
    def number(self, low: float, high: float) -> float: ...
    def boolean(self) -> bool: ...
    def choice(self, options: Sequence[Any]) -> Any: ...
    def shape(self, min_rank: int = 0, max_rank: int = 4) -> tuple[Size, ...]: ...
    def dtype(self) -> DType: ...
    def tensor(
        self,
        shape: tuple[Size, ...] | None = None,
        dtype: DType | None = None,
        min_rank: int = 0,
        max_rank: int = 4,
    ) -> Value:
        """A value of the graph so far, or a fresh input, of this (or any) type."""

    def positive(self, shape: tuple[Size, ...] | None = None, dtype: DType | None = None) -> Value:
        """A floating value whose elements are all above zero."""

    def body(
        self, carries: Sequence[TensorType], slices: Sequence[TensorType]
    ) -> tuple[BlueprintIR, Sequence[Value]]:
        """One step of a loop: a graph of `carries` and `slices`, and the values of its other inputs.

        Its first outputs are as many and of the same types as `carries`; there is at least one output.
        """

    def indices(self, shape: tuple[Size, ...], below: int) -> Value:
        """i64 values from 0 to `below` - 1; `below` is at least 4."""

    def param(self, shape: tuple[Size, ...], dtype: DType) -> Value: ...
    def buffer(self, shape: tuple[Size, ...], dtype: DType) -> Value: ...
    def seed(self) -> Value: ...
    def offset(self) -> int:
        """A fresh random offset, unique in the graph."""

    def type(self, value: Value) -> TensorType: ...


Sample = Callable[[Sampler], "tuple[Sequence[Value | None], dict[str, AttrValue]]"]


@dataclass(frozen=True, slots=True)
class Operator:
    """All of one operator.

    infer: the type rule; raises `TypeRuleViolated`. None for leaves, whose type is declared.
    reference: `module:function`, called as `f(*operands, **attrs)` with torch tensors, in the
        operands' dtype; resolved when first used, so that checking needs no torch.
    first_result_reference: a faster `module:function`, called alike, that gives the first result alone;
        it serves where nothing asks for the others.
    vjp: None where the operator has no gradient; `no_gradient` then says why.
    residuals: attributes that a node takes on before it is differentiated, so that after its own results
        it has those that `vjp` reads.
    variadic_results: the last of `results` stands for any number of results; the type rule says how many.
    random: true where a node draws; two such nodes are never merged.
    undrawn: attributes under which a node of a random operator draws nothing and takes no seed; the pass
        `inference` gives it these.
    """

    name: str
    doc: str
    lowering: Lowering
    inputs: tuple[Input, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    results: tuple[str, ...] = ("result",)
    infer: Callable[[Site], Sequence[TensorType]] | None = None
    reference: str | None = None
    first_result_reference: str | None = None
    vjp: VjpRule | None = None
    no_gradient: str = ""
    residuals: Attrs = field(default_factory=dict)
    variadic_results: bool = False
    cost: Callable[[Site], Cost] | None = None
    sample: Sample | None = None
    in_language: bool = True
    random: bool = False
    undrawn: Attrs = field(default_factory=dict)
    updates: Mapping[int, int] = field(default_factory=dict)  # result index -> buffer operand it updates

    def draws(self, attrs: Attrs) -> bool:
        """Whether a node with `attrs` draws random numbers."""
        is_undrawn = bool(self.undrawn) and self.undrawn.items() <= attrs.items()
        return self.random and not is_undrawn

    def has_identity(self, attrs: Attrs) -> bool:
        """Whether two equal nodes with `attrs` are still two: parameters, buffers and random draws."""
        return self.draws(attrs) or self.name in ("param", "buffer")

    def attribute(self, name: str) -> Attribute | None:
        return next((a for a in self.attributes if a.name == name), None)

    def input_of(self, index: int) -> Input:
        """The input that operand number `index` belongs to."""
        return self.inputs[min(index, len(self.inputs) - 1)]


OPERATORS: dict[str, Operator] = {}
FAMILIES: dict[str, str] = {}
"""Operator name -> the module that defines it, by which documentation groups operators."""


def define(operator: Operator) -> Operator:
    """Adds `operator` to the table, in the family of the calling module; a name may be taken once."""
    if operator.name in OPERATORS:
        raise ValueError(f"operator `{operator.name}` is defined twice")
    OPERATORS[operator.name] = operator
    FAMILIES[operator.name] = str(sys._getframe(1).f_globals["__name__"])
    return operator
