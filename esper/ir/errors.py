"""What can be wrong with a size, a type or a graph; each message names the node and the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esper.errors import EsperError, Span

if TYPE_CHECKING:
    from esper.ir.dims import Size

LONGEST = 300  # characters of a file that a message repeats


class FromFile(EsperError):
    """Repeats text from a file that anybody may have written: shortened, and escaped for the terminal."""

    def __init__(self, *, span: Span | None = None, **details: Any) -> None:
        super().__init__(span=span, **{name: printable(value) for name, value in details.items()})


def printable(value: Any) -> Any:
    """`value`, or if a file may hold it, its first characters with all but printable ASCII escaped."""
    if isinstance(value, list | dict):
        value = str(value)
    if not isinstance(value, str):
        return value
    shown = value if len(value) <= LONGEST else value[:LONGEST] + "..."
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in shown)


class TypeRuleViolated(EsperError):
    code = "E0301"
    message = "`{operator}`: {reason}"


class SizesUnproved(TypeRuleViolated):
    """Operand number `operand` must have the size `wanted` on its axis `axis`, which its type does not show.

    axes: how many axes from that one on are meant, taken together as one. Symbols hide what is equal when the
    graph runs: a caller that builds graphs may ask for a check there. way_out: of one who writes a blueprint.
    """

    help = "{way_out}"

    operand: int
    axis: int
    axes: int
    wanted: Size

    def __init__(self, *, span: Span | None = None, **details: Any) -> None:
        super().__init__(span=span, **details)
        self.operand, self.axis, self.wanted = (details[key] for key in ("operand", "axis", "wanted"))
        self.axes = details.get("axes", 1)

    def with_way_out(self, words: str) -> SizesUnproved:
        return type(self)(span=self.span, **{**self.details, "way_out": words})


class NumbersNeeded(TypeRuleViolated):
    """The rule needs the numbers of the list `attribute`, and the sizes `symbols` in it have none yet."""

    attribute: str
    symbols: frozenset[str]

    def __init__(self, *, span: Span | None = None, **details: Any) -> None:
        super().__init__(span=span, **details)
        self.attribute, self.symbols = details["attribute"], details["symbols"]


class UnboundSize(EsperError):
    code = "E0302"
    message = "the size `{name}` in `{size}` has no value"
    help = "give it one, for example with --size {name}=32"


class SizeOverflow(EsperError):
    code = "E0303"
    message = (
        "a size has more than {terms} terms, a degree above {degree}, divisions nested too deep, "
        "or a number beyond 64 bits"
    )
    help = "bind some of the parameters in it to numbers"


class SizesDiffer(EsperError):
    code = "E0304"
    message = "{because}: found the shape {found}, expected {expected}"
    help = "give tensors of other sizes"


class MalformedIR(FromFile):
    """place: the line and column of the text, both from 1, where that is what `where` says."""

    code = "E0501"
    message = "{where}: {reason}"
    place: tuple[int, int] | None = None


class UnknownIROperator(FromFile):
    code = "E0502"
    message = "node `{node}`: `{operator}` is not in the operator table"
    help = "`docs/operators.md` lists the operators"


class InvalidNode(FromFile):
    code = "E0503"
    message = "node `{node}`: {reason}"


class InvalidGraph(FromFile):
    code = "E0504"
    message = "blueprint `{blueprint}`: {reason}"


class UnsupportedSchema(FromFile):
    code = "E0505"
    message = "IR schema version {found!r} is not supported"
    help = "this release reads schema version {expected}"
