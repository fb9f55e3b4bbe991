"""Einstein summation: an equation in letters becomes permutations, reshapes, products and sums.

Operands are taken together from the left, two at a time. Of two, a letter that both have is a batch axis if
the rest of the equation needs it, else it is summed over by a matrix product; the other letters are rows and
columns. A `...` stands for letters of its own, one for each of its axes, aligned at the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    OPERATORS,
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.rules import require_floating, traffic

DOTS = "..."
LETTERS = "abcd"  # of sampled equations

Letters = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """The letters of each operand's axes and of the result's, and the size of each letter.

    own: the letters of each operand once each, without those of axes of size 1 that others stretch.
    """

    terms: tuple[Letters, ...]
    own: tuple[Letters, ...]
    output: Letters
    sizes: Mapping[str, Size]

    def needed(self, index: int) -> Letters:
        """The letters of an operand that another operand or the result has, too."""
        others = {letter for place, own in enumerate(self.own) if place != index for letter in own}
        return tuple(letter for letter in self.own[index] if letter in others or letter in self.output)

    def shape(self, letters: Iterable[str]) -> tuple[Size, ...]:
        return tuple(self.sizes[letter] for letter in letters)


@dataclass(frozen=True, slots=True)
class Contraction:
    """What the letters of two operands are to their product: `batch`, `rows`, `columns` remain, in order."""

    batch: Letters
    rows: Letters
    inner: Letters
    columns: Letters

    @property
    def result(self) -> Letters:
        return self.batch + self.rows + self.columns


def contraction(a: Letters, b: Letters, kept: Iterable[str]) -> Contraction:
    """kept: the letters that the rest of the equation needs."""
    kept = set(kept)
    return Contraction(
        batch=tuple(letter for letter in a if letter in b and letter in kept),
        rows=tuple(letter for letter in a if letter not in b),
        inner=tuple(letter for letter in a if letter in b and letter not in kept),
        columns=tuple(letter for letter in b if letter not in a),
    )


def read_equation(site: Site) -> Equation:
    """The equation of a use of `einsum`. Raises `TypeRuleViolated`, which names the letter that is wrong."""
    text = site.attrs["equation"]
    assert isinstance(text, str)
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = [_term(site, term) for term in left.split(",")]
    types = [type for type in site.types if type is not None]
    site.require(
        len(terms) == len(types), f"`{text}` has {len(terms)} terms and there are {len(types)} operands"
    )
    hidden = max(
        (type.rank - len(term) + 1 for term, type in zip(terms, types, strict=True) if DOTS in term),
        default=0,
    )
    dots = tuple(f"{DOTS}{axis}" for axis in range(-hidden, 0))
    named = [_axes(site, term, type, dots) for term, type in zip(terms, types, strict=True)]
    sizes = _sizes(site, named, types)
    own = tuple(_own(term, type, sizes) for term, type in zip(named, types, strict=True))
    if not arrow:
        counts = Counter(letter for term in named for letter in term if not letter.startswith(DOTS))
        output = (*dots, *sorted(letter for letter, count in counts.items() if count == 1))
        return Equation(tuple(named), own, output, sizes)
    given = _term(site, right)
    output = tuple(name for letter in given for name in (dots if letter == DOTS else (letter,)))
    for letter in given:
        site.require(
            letter in sizes or letter == DOTS, f"`{letter}` after `->` in `{text}` is in no term before it"
        )
        site.require(given.count(letter) == 1, f"`{letter}` stands twice after `->` in `{text}`")
    return Equation(tuple(named), own, output, sizes)


def _term(site: Site, text: str) -> tuple[str, ...]:
    """Its letters, and `...` where it stands."""
    before, dots, after = text.partition(DOTS)
    for letter in before + after:
        site.require(
            letter.isascii() and letter.isalpha(),
            f"`{letter}` in the term `{text}` of `equation` is no letter from a to z or A to Z",
        )
    return (*before, *((DOTS,) if dots else ()), *after)


def _axes(site: Site, term: tuple[str, ...], type: TensorType, dots: Letters) -> Letters:
    """The letter of each axis of an operand."""
    shown = "".join(term)
    named = len(term) - (DOTS in term)
    site.require(
        type.rank >= named if DOTS in term else type.rank == named,
        f"the term `{shown}` names {named} axes, and its operand is {type}",
    )
    if DOTS not in term:
        return term
    place = term.index(DOTS)
    hidden = type.rank - named
    return (*term[:place], *dots[len(dots) - hidden :], *term[place + 1 :])


def _sizes(site: Site, terms: Sequence[Letters], types: Sequence[TensorType]) -> dict[str, Size]:
    """The size of each letter; one of size 1 is stretched to the others of its letter."""
    sizes: dict[str, Size] = {}
    places: dict[str, tuple[int, int]] = {}
    for operand, (term, type) in enumerate(zip(terms, types, strict=True)):
        for axis, (letter, size) in enumerate(zip(term, type.shape, strict=True)):
            known = sizes.setdefault(letter, size)
            if known == 1 or letter not in places:
                sizes[letter], places[letter] = size, (operand, axis)
            shown = DOTS if letter.startswith(DOTS) else letter
            if 1 not in (known, size):
                reason = f"`{shown}` is {known} in one operand and {size} in another"
                site.require_same_size((operand, axis), places[letter], reason)
            site.require(
                term.count(letter) == 1 or isinstance(size, int),
                f"`{shown}` stands twice in a term, for an axis of {size}: a diagonal needs a number",
            )
    for term, type in zip(terms, types, strict=True):
        for letter, size in zip(term, type.shape, strict=True):
            site.require(
                term.count(letter) == 1 or size == sizes[letter],
                f"`{letter}` stands twice in a term, for axes of {size} and {sizes[letter]}",
            )
    return sizes


def contractions(equation: Equation) -> list[Contraction]:
    """The steps from the left, of operands that have been summed over what they alone have."""
    steps: list[Contraction] = []
    letters, *_ = terms = [equation.needed(index) for index in range(len(equation.terms))]
    for index, term in enumerate(terms[1:], 1):
        kept = set(equation.output).union(*terms[index + 1 :])
        steps.append(contraction(letters, term, kept))
        letters = steps[-1].result
    return steps


def _own(term: Letters, type: TensorType, sizes: Mapping[str, Size]) -> Letters:
    axes = dict(zip(term, type.shape, strict=True))
    return tuple(letter for letter, size in axes.items() if size == sizes[letter])


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    types = [type for type in site.types if type is not None]
    for type in types:
        site.require(
            type.dtype is types[0].dtype, f"found {types[0]} and {type} in `tensors`: the dtypes differ"
        )
    equation = read_equation(site)
    return [types[0].with_shape(equation.shape(equation.output))]


def _cost(site: Site) -> Cost:
    """A product and a sum for each row, column and inner index of a step; sums of one operand alone."""
    equation = read_equation(site)
    flops: Size = 0
    for index, type in enumerate(type for type in site.types if type is not None):
        flops = flops + (type.elements if len(equation.needed(index)) < len(equation.own[index]) else 0)
    for step in contractions(equation):
        count = product(equation.shape(step.result + step.inner))
        flops = flops + count * (2 if step.inner else 1)
    return traffic(site, flops)


class _Lowering:
    def __init__(self, build: Builder, equation: Equation) -> None:
        self.build = build
        self.equation = equation

    def ordered(self, value: Value, have: Letters, want: Letters) -> Value:
        return self.build.op("permute", value, axes=tuple(have.index(letter) for letter in want))

    def reshaped(self, value: Value, shape: tuple[Size, ...]) -> Value:
        return self.build.op("reshape", value, shape=shape)

    def prepared(self, value: Value, index: int) -> tuple[Value, Letters]:
        """The operand with diagonals taken, stretched axes dropped, and summed over what it alone has."""
        term, own, letters = self.equation.terms[index], self.equation.own[index], self.equation.needed(index)
        for letter in dict.fromkeys(term):
            while term.count(letter) > 1:
                value, term = self.diagonal(value, term, letter)
        if len(own) < len(term):
            term = tuple(letter for letter in term if letter in own)
            value = self.reshaped(value, self.equation.shape(term))
        summed = tuple(axis for axis, letter in enumerate(term) if letter not in letters)
        if summed:
            value = self.build.op("sum", value, axes=summed)
        return value, tuple(letter for letter in term if letter in letters)

    def diagonal(self, value: Value, term: Letters, letter: str) -> tuple[Value, Letters]:
        """Two axes of one letter as one: every `size + 1`-th element of both in row-major order."""
        first = term.index(letter)
        second = term.index(letter, first + 1)
        rest = tuple(axis for axis in range(len(term)) if axis not in (first, second))
        value = self.build.op("permute", value, axes=(*rest, first, second))
        *shape, size, _ = self.build.type(value).shape
        flat = self.reshaped(value, (*shape, size * size))
        part = self.build.op("slice", flat, axes=(-1,), step=(size + 1,))
        return part, (*(term[axis] for axis in rest), letter)

    def pair(self, a: Value, a_letters: Letters, b: Value, b_letters: Letters, step: Contraction) -> Value:
        shape = self.equation.shape
        if not step.inner:
            left = self.ordered(a, a_letters, step.batch + step.rows)
            right = self.ordered(b, b_letters, step.batch + step.columns)
            left = self.reshaped(left, (*shape(step.batch + step.rows), *[1] * len(step.columns)))
            right = self.reshaped(right, (*shape(step.batch), *[1] * len(step.rows), *shape(step.columns)))
            return self.build.op("mul", left, right)
        left, is_left_turned = self.matrix(a, a_letters, step.batch, step.rows, step.inner)
        right, is_right_turned = self.matrix(b, b_letters, step.batch, step.inner, step.columns)
        found = self.build.op("matmul", left, right, transpose_a=is_left_turned, transpose_b=is_right_turned)
        return self.reshaped(found, shape(step.result))

    def matrix(
        self, value: Value, letters: Letters, batch: Letters, rows: Letters, columns: Letters
    ) -> tuple[Value, bool]:
        """The operand as matrices [*batch, rows, columns], or turned where its axes already stand so."""
        is_turned = letters == batch + columns + rows and letters != batch + rows + columns
        first, second = (columns, rows) if is_turned else (rows, columns)
        value = self.ordered(value, letters, batch + first + second)
        shape = self.equation.shape
        sizes = (*shape(batch), product(shape(first)), product(shape(second)))
        return self.reshaped(value, sizes), is_turned


def _define(build: Builder, node: Node) -> Sequence[Value]:
    operands = [operand for operand in node.operands if operand is not None]
    types = tuple(build.type(operand) for operand in operands)
    equation = read_equation(Site(OPERATORS["einsum"], types, node.attrs))
    lowering = _Lowering(build, equation)
    prepared = [lowering.prepared(operand, index) for index, operand in enumerate(operands)]
    (value, letters), *rest = prepared
    for step, (other, others) in zip(contractions(equation), rest, strict=True):
        value, letters = lowering.pair(value, letters, other, others, step), step.result
    return [lowering.ordered(value, letters, equation.output)]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    sizes = dict(zip(LETTERS, draw.shape(len(LETTERS), len(LETTERS)), strict=True))
    dtype, has_dots = draw.dtype(), draw.boolean()
    terms: list[str] = []
    operands: list[Value] = []
    for _ in range(draw.integer(1, 3)):
        first, count = draw.integer(0, 3), draw.integer(1, 3)
        letters = "".join(LETTERS[(first + place) % len(LETTERS)] for place in range(count))
        letters = letters[::-1] if draw.boolean() else letters
        lead = (draw.choice((2, 1)),) if has_dots and draw.boolean() else ()
        operands.append(draw.tensor((*lead, *(sizes[letter] for letter in letters)), dtype))
        terms.append(DOTS * len(lead) + letters)
    used = sorted({letter for term in terms for letter in term if letter != "."})
    kept = [letter for letter in used if draw.boolean()]
    output = "" if draw.boolean() else f"->{DOTS * has_dots}{''.join(reversed(kept))}"
    return operands, {"equation": ",".join(terms) + output}


define(
    Operator(
        name="einsum",
        doc="The sum of products that `equation` states, as `bij,bjk->bik` does: a letter for each axis of "
        "each operand, and after `->` those of the result. Letters that are not there are summed over; a "
        "letter twice in a term is the diagonal. `...` stands for axes that broadcast. Without `->`, the "
        "result has `...` and the letters that stand once, in alphabetical order.",
        lowering=Composite(_define),
        inputs=(Input("tensors", variadic=True, doc="floating tensors of one dtype, in the terms' order"),),
        attributes=(Attribute("equation", Kind.STRING, doc="the terms, one for each operand"),),
        infer=_infer,
        reference="esper.ops.reference.einsum:einsum",
        no_gradient="`expand` replaces it by its definition",
        cost=_cost,
        sample=_sample,
    )
)
