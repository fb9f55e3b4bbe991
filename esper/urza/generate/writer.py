"""Generation: a group of the plan as the text of one Triton kernel.

The text is a flat entry function that calls a template of `esper.kernels` and hands it a generated body:
loads, expressions and stores, in the order of the nodes. Everything but the run-time sizes is a literal.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from math import gcd

from esper.ir.dims import Dim, Size, product
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Pointwise, Reduction
from esper.ir.types import DType
from esper.ops.rules import attribute_integer
from esper.urza.generate.literals import constant_text, literal
from esper.urza.generate.placed import PLACES
from esper.urza.grid import Extent, Product
from esper.urza.kernel import BATCH, VECTOR, Argument, Direction, KernelSource
from esper.urza.plan.access import Access, access, row_major
from esper.urza.plan.groups import Group, Plan
from esper.urza.plan.products import product_sizes
from esper.urza.plan.space import Segment, index_text
from esper.urza.plan.tiles import Tile

OWN = re.compile(r"^size_|_ptr$")
"""Names that sizes and pointers have to themselves."""

FIRST = "first"
"""The index variable of a map that has the first offset of each vector."""

_PLAIN = re.compile(r"[a-zA-Z_]\w* = |tl\.store\(|return ")
"""A statement of a body that is done once: no loop, no branch, no line of either."""

FUNCTION_CALL = re.compile(r"(?<![\w.])([a-z]\w*)\(")
LIBRARY = frozenset(
    re.findall(
        r"^def ([a-z]\w*)\(",
        (files("esper.kernels") / "functions.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
"""The functions of `esper.kernels.functions` that operators' expressions call."""

SHARING = ("member_of_program", "pick")
"""The functions of `esper.kernels.sharing` that entries call."""

RESERVED = LIBRARY | {
    *SHARING,
    *("member", "program", "totals_of_lines", "sums"),
    *keyword.kwlist,
    *("triton", "tl", "float", "operands", "mask", "row", "column", "offsets", "channel", "tile"),
    *("before", "after", FIRST, "SPREAD", "VECTOR"),
    *("slice_index", "totals", "matmul", "rows", "rows_with_sums", "columns", "channels", "finish"),
    *("attention_forward", "attention_query_grad", "attention_key_value_grad", "attention_mask_grad"),
    *("depthwise", "depthwise_weight_grad", "BLOCK_C"),
    *("max_pool", "max_pool_backward", "avg_pool", "avg_pool_backward"),
    *("outer", "along", "inner", "values", "fold_rows", "fold_columns", "each_of_rows", "each_of_columns"),
    *("rows_of_program", "columns_of_program", "running_rows", "running_columns", "BLOCK_R"),
    *("scan", "state", "held", "step", "steps", "STAGES"),
    *("pointwise", "pointwise_vectors", "elements", "elements_of_vectors", "BLOCK", "BLOCK_M", "BLOCK_N"),
    *("BLOCK_K", "BLOCK_P", "BLOCK_W"),
}
"""What no value and no size of a kernel may be called."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel and what its arguments are: buffers by name, sizes over the graph's symbols.

    passes: how often a template goes through an argument's buffer, at most, where that is more than once.
    """

    kernel: KernelSource
    buffers: Mapping[str, str]
    sizes: Mapping[str, Size]
    group: Group
    passes: Mapping[str, Extent] = field(default_factory=dict)

    @property
    def written(self) -> tuple[str, ...]:
        return tuple(self.buffers[a.name] for a in self.kernel.arguments if a.writes)


def buffer_name(value: Value) -> str:
    """The buffer that holds `value`."""
    return value.node if value.index == 0 else f"{value.node}#{value.index}"


@dataclass(frozen=True, slots=True)
class Body:
    """A generated function: its name, its parameters before the operands, its lines, its operands.

    given: names of values that its caller appends to the operands.
    """

    name: str
    parameters: str
    lines: tuple[str, ...]
    operands: tuple[str, ...]
    given: tuple[str, ...] = ()

    @property
    def operands_text(self) -> str:
        return f"({', '.join(self.operands)},)" if self.operands else "()"

    @property
    def text(self) -> list[str]:
        """The lines of its definition and the blank ones after it."""
        names = ", ".join((*self.operands, *self.given))
        unpack = [f"({names},) = operands"] if names else []
        lines = [f"    {line}" for line in [*unpack, *self.lines] or ["pass"]]
        return ["@triton.jit", f"def {self.name}({self.parameters}, operands):", *lines, "", ""]


@dataclass
class Writer:
    """Collects the arguments, the bodies and the sizes of one kernel.

    group: the part of `launch` that is being written. bodies: the finished ones; `lines` are of the next.
    """

    plan: Plan
    launch: Group
    direction: Direction
    group: Group = field(init=False)
    pointers: dict[str, Argument] = field(default_factory=dict)
    sizes: dict[Size, str] = field(default_factory=dict)
    in_body: dict[str, None] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    names: dict[Value, str] = field(default_factory=dict)
    loaded: dict[tuple[str, str], str] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)
    symbols: frozenset[str] = field(init=False)
    steps: set[str] = field(default_factory=set)
    firm: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.group = self.launch
        self.symbols = frozenset(self.ir.symbols)

    @property
    def ir(self) -> BlueprintIR:
        return self.plan.ir

    # --- arguments ---

    def pointer(self, buffer: str, dtype: str, writes: bool = False) -> str:
        if buffer not in self.pointers:
            name = f"{identifier(buffer)}_ptr"
            while any(argument.name == name for argument in self.pointers.values()):
                name = f"_{name}"
            self.pointers[buffer] = Argument(name, "pointer", dtype, divisible_by=16, writes=writes)
        return self.pointers[buffer].name

    def body_pointer(self, buffer: str, dtype: str, writes: bool = False) -> str:
        name = self.pointer(buffer, dtype, writes)
        self.in_body.setdefault(name)
        return name

    def size(self, size: Size) -> str:
        """Text for `size` in the entry function."""
        if isinstance(size, int):
            return str(size)
        factor = _common_factor(size)
        name = self._size_argument(size // factor)
        return name if factor == 1 else f"({name} * {factor})"

    def is_promised(self, size: Size) -> bool:
        """Whether kernels under promises may take `size` for a multiple of VECTOR."""
        if isinstance(size, int):
            return size % VECTOR == 0
        factor = _common_factor(size)
        return factor % VECTOR == 0 or self._size_argument(size // factor) != BATCH

    def step(self, size: Size) -> str:
        """Text for a `size` that places are multiples of, are divided by, or end at."""
        if isinstance(size, Dim) and _common_factor(size) % VECTOR:
            self.steps.add(self._size_argument(size // _common_factor(size)))
        return self.size(size)

    def body_step(self, size: Size) -> str:
        """The same in the body."""
        self.step(size)
        return self.body_size(size)

    def body_size(self, size: Size) -> str:
        """Text for `size` in the body, which gets it through its operands."""
        if isinstance(size, Dim):
            self.in_body.setdefault(self._size_argument(size // _common_factor(size)))
        return self.size(size)

    def extent(self, size: Size) -> Extent:
        if isinstance(size, int):
            return size
        factor = _common_factor(size)
        name = self._size_argument(size // factor)
        return name if factor == 1 else Product((name, factor))

    def _size_argument(self, size: Size) -> str:
        if size not in self.sizes:
            name = str(size)
            if not name.isidentifier() or name in RESERVED or OWN.search(name):
                name = f"size_{len(self.sizes)}"
            self.sizes[size] = name
        self.firm.add(self.sizes[size])
        return self.sizes[size]

    def loose_size(self, size: Size) -> str:
        """Text in the body for a size along which no vector lies."""
        firm = set(self.firm)
        text = self.body_size(size)
        self.firm = firm
        return text

    # --- the body ---

    def segments(self) -> tuple[Segment, ...]:
        group, rank = self.group, len(self.group.space.shape)
        if group.kind == "product":
            batch = len(product_sizes(self.ir, group.products[0])[0])
            return (
                Segment("slice_index", 0, batch),
                Segment("row", batch, rank - 1),
                Segment("column", rank - 1, rank),
            )
        if group.along is not None:
            first, last = group.along
            return (
                Segment("outer", 0, first),
                *((Segment("along", first, last),) if first < last else ()),
                Segment("inner", last, rank),
            )
        if group.split is not None:
            return (Segment("row", 0, group.split), Segment("column", group.split, rank))
        if group.channel is not None:
            first, last = group.channel
            return (
                Segment("before", 0, first),
                Segment("channel", first, last),
                Segment("after", last, rank),
            )
        return (Segment("offsets", 0, rank, of_vectors=FIRST),)

    def mask(self, used: frozenset[str]) -> str:
        """The mask of a load whose offset uses the index variables `used`."""
        shape = self.group.space.shape
        if self.group.along is not None:
            return self._fold_mask(used)
        if self.group.kind == "product" or self.group.split is not None:
            last = self.segments()[-1]
            if used == {"column"}:
                return f"column < {self.body_size(product(shape[last.first :]))}"
            if used in ({"row"}, {"row", "slice_index"}):
                rows = self.segments()[-2]
                return f"row < {self.body_size(product(shape[rows.first : rows.last]))}"
            return "None" if used == {"slice_index"} else "mask"
        if used == {FIRST}:
            return f"{FIRST} < {self.body_size(product(shape))}"
        return "None" if used == {"channel"} else "mask"

    def _fold_mask(self, used: frozenset[str]) -> str:
        """Where the axis comes last, `outer` is a tile, else `inner` is."""
        outer, *between, inner = self.segments()
        shape = self.group.space.shape
        tile = "outer" if product(shape[inner.first :]) == 1 else "inner"
        if "along" in used:
            (along,) = between
            size = product(shape[along.first : along.last])
            return "mask" if tile in used else f"along < {self.body_size(size)}"
        if tile not in used:
            return "None"
        axes = shape[: outer.last] if tile == "outer" else shape[inner.first :]
        return f"{tile} < {self.body_size(product(axes))}"

    def offset(self, read: Access) -> tuple[str, frozenset[str]]:
        return index_text(self.group.space, self.segments(), read, self.body_step, self.is_promised)

    def load(self, read: Access) -> str:
        return self.load_at(read.base, *self.offset(read))

    def load_at(
        self,
        base: Value,
        offset: str,
        used: frozenset[str],
        valid: tuple[str, ...] = (),
        other: str = "0",
    ) -> str:
        """The name of a load of `base`'s buffer, widened; `other` where one of `valid` does not hold."""
        type = self.ir.type(base)
        pointer = self.body_pointer(buffer_name(base), type.dtype.value)
        mask = self.mask(used) if used else "None"
        if valid and " " in mask:
            mask = f"({mask})"
        conditions = [text for text in (mask, *valid) if text != "None"]
        place = pointer if offset in ("", "0") else f"{pointer} + {offset}"
        text = f"tl.load({place}, {' & '.join(conditions)}, {other})" if conditions else f"tl.load({place})"
        key = (pointer, text)
        if key not in self.loaded:
            name = self.unique(f"{identifier(buffer_name(base))}_value")
            if type.dtype in (DType.BF16, DType.F16):
                text += ".to(tl.float32)"
            self.lines.append(f"{name} = {text}")
            self.loaded[key] = name
        return self.loaded[key]

    def operand(self, value: Value | None) -> str:
        assert value is not None
        read = access(self.ir, value)
        assert read is not None
        if read.base in self.names:
            return self.names[read.base]
        node = self.ir.node(read.base.node)
        if node.op == "constant":
            return constant_text(node)
        return self.load(read)

    def compute(self, node: Node) -> None:
        """Emits the expression of a pointwise node, or a row reduction."""
        lowering = OPERATORS[node.op].lowering
        if isinstance(lowering, Reduction):
            self._assign(node, self._row_reduction(node, lowering.kind))
            return
        if node.op in PLACES:
            self._assign(node, PLACES[node.op](self, node))
            return
        assert isinstance(lowering, Pointwise), node.op
        entry = OPERATORS[node.op]
        names = {entry.input_of(i).name: self.operand(o) for i, o in enumerate(node.operands)}
        for name, value in node.attrs.items():
            names[name] = f"({self.body_size(value)} * 1.0)" if isinstance(value, Dim) else literal(value)
        if lowering.depends_on_place:
            shape = node.type.shape
            names["index"] = f"({self.offset(Access(node.result(), shape, row_major(shape)))[0]})"
        text = lowering.expression.format(**names)
        if node.op == "cast":
            text = self._cast(text, node)
        self._assign(node, text)

    def _cast(self, text: str, node: Node) -> str:
        (operand,) = node.operands
        assert operand is not None
        source, target = self.ir.type(operand).dtype, node.type.dtype
        if target.is_floating:
            return text if source.is_floating else f"({text}).to(tl.float32)"
        return f"({text}).to(tl.{ {DType.I32: 'int32', DType.I64: 'int64', DType.BOOL: 'int1'}[target] })"

    def _row_reduction(self, node: Node, kind: str) -> str:
        x = self.operand(node.operands[0])
        if kind == "max":
            return f'largest(tl.where(mask, {x}, float("-inf")), 1)'
        return f"tl.{kind}(tl.where(mask, {x}, 0.0), 1)[:, None]"

    def _assign(self, node: Node, text: str) -> None:
        name = self.unique(identifier(node.name))
        self.lines.append(f"{name} = {text}")
        self.names[node.result()] = name

    def unique(self, name: str) -> str:
        """`name`, or one like it that nothing in the body has."""
        taken = {line.split(" = ")[0].strip() for line in self.lines} | set(self.in_body) | RESERVED
        taken |= self.symbols
        while name in taken or OWN.search(name):
            name = f"_{name.removesuffix('_ptr')}"
        return name

    def terms(self) -> str:
        """The tuple of a body's terms, one for each sum."""
        texts = [f"tl.where(mask, {self.operand(node.operands[0])}, 0.0)" for node in self.group.sums]
        return f"({', '.join(texts)},)"

    def store_results(self) -> None:
        """Stores what this group owns and others need."""
        for node in [*self.group.nodes, *self.group.totals]:
            value = node.result()
            if (
                value in self.plan.stored
                and self.plan.owners.get(node.name) is self.group
                and value in self.names
            ):
                self._store(value, Access(value, node.type.shape, row_major(node.type.shape)))
        for node in self.group.joined:
            self._store_parts(node)

    def _store_parts(self, node: Node) -> None:
        """Stores the operands of a concatenation, each in its part of the result."""
        axis = attribute_integer(node.attrs, "axis") % node.type.rank
        strides = row_major(node.type.shape)
        start: Size = 0
        for operand in node.operands:
            assert operand is not None
            shape = self.ir.type(operand).shape
            self._store(operand, Access(node.result(), shape, strides), start * strides[axis])
            start = start + shape[axis]

    def _store(self, value: Value, place: Access, start: Size = 0) -> None:
        """Stores a value that has a name at `place`, in elements from `start` of the buffer on."""
        offset, used = self.offset(place)
        offset, used = self._whole_tile(offset, used, place.shape)
        if start != 0:
            offset = f"{self.body_size(start)} + {offset}"
        dtype = self.ir.type(place.base).dtype.value
        pointer = self.body_pointer(buffer_name(place.base), dtype, writes=True)
        mask = "mask" if self.group.kind == "finish" or not used else self.mask(used)
        self.lines.append(f"tl.store({pointer} + {offset}, {self.operand(value)}, {mask})")

    def _whole_tile(
        self, offset: str, used: frozenset[str], shape: tuple[Size, ...]
    ) -> tuple[str, frozenset[str]]:
        """`offset` over all of a tile: an index whose axes have size 1 is 0 wherever the mask is true."""
        space = self.group.space
        if space.full(space.frame(shape) or ()):
            variables = [s.name for s in self.segments() if s.name not in ("slice_index", "channel")]
        else:
            variables = ["row"] if self.group.reduces_rows else []
        terms = ([] if offset == "0" else [offset]) + [name for name in variables if name not in used]
        return " + ".join(terms), used | set(variables)

    # --- the text ---

    def begin(self, part: Group) -> None:
        """Turns to a part of the launch; values have no names in it yet."""
        self.group = part
        self.names.clear()
        self.loaded.clear()

    def end(self, name: str, parameters: str) -> Body:
        """Makes a body of the lines so far, whose name begins with the kernel's."""
        words = {word for line in self.lines for word in re.findall(r"\w+", line)}
        operands = tuple(name for name in self.in_body if name in words)
        body = Body(f"{self.launch.name}_{name}", parameters, tuple(self.lines), operands)
        self.bodies.append(body)
        self.lines.clear()
        return body

    def _taken_before_loop(self, fixed: str) -> str:
        """Takes what the last body computes alike each time out of it: the name of a body that does so once.

        fixed: the parameter of the last body that stays the same. Empty where nothing is loaded alike.
        """
        body = self.bodies[-1]
        varying = {name for name in body.parameters.split(", ") if name != fixed}
        alike: dict[str, str] = {}
        rest: list[str] = []
        if any(not _PLAIN.match(line) for line in body.lines):
            return ""  # a loop or a branch may change a name after its first line
        for line in body.lines:
            target, equals, text = line.partition(" = ")
            if equals and target.isidentifier() and not varying & set(re.findall(r"\w+", text)):
                alike[target] = line
            else:
                rest.append(line)
                varying |= {target}
        if not any("tl.load(" in line for line in alike.values()):
            return ""
        needed = {word for line in rest for word in re.findall(r"\w+", line)}
        given = tuple(name for name in alike if name in needed)
        returned = f"return ({', '.join(given)},)"
        first = Body(f"{self.launch.name}_{fixed}", fixed, (*alike.values(), returned), body.operands)
        self.bodies[-1:] = [first, replace(body, lines=tuple(rest), given=given)]
        return first.name

    def finished(
        self,
        body: str | None,
        call: str,
        template: str,
        grid: tuple[Extent, ...],
        tile: Tile,
        trips: int = 1,
        fixed: str = "",
    ) -> Launch:
        """The kernel; `call` is the text of the entry's statements.

        body: the parameters of the last body before its operands, then `call` has places for `{body}` and
        `{operands}`; None where all bodies are ended.
        template: the module of templates, and those of its functions that the entry calls; `;`, and more.
        fixed: the parameter that the last body is always called with alike, in a loop; then `call` has a
        place for `{before_loop}`, a further argument of the template.
        """
        entry = self.launch.name
        if body is not None:
            last = self.end("body", body)
            before = self._taken_before_loop(fixed) if fixed else ""
            before = f", BEFORE_LOOP={before}" if before else ""
            call = call.format(body=last.name, operands=last.operands_text, before_loop=before)
        arguments = (
            *self.pointers.values(),
            *(Argument(size, "size", is_loose=size not in self.firm) for size in self.sizes.values()),
        )
        parameters = [argument.name for argument in arguments] + [
            f"{c}: tl.constexpr" for c in tile.constexprs
        ]
        source = "\n".join(
            [
                "import triton",
                "import triton.language as tl",
                "",
                *self._imports(call, template),
                "",
                "",
                *(line for one in self.bodies for line in one.text),
                "@triton.jit",
                f"def {entry}({', '.join(parameters)}):",
                *(f"    {line}" for line in call.splitlines()),
                "",
            ]
        )
        kernel = KernelSource(
            name=entry,
            direction=self.direction,
            source=source,
            entry=entry,
            arguments=arguments,
            grid=grid,
            constexprs=tile.constexprs,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            trips=trips,
            alternatives=tile.alternatives,
            steps=tuple(sorted(self.steps)),
        )
        buffers = {argument.name: buffer for buffer, argument in self.pointers.items()}
        return Launch(kernel, buffers, {name: size for size, name in self.sizes.items()}, self.launch)

    def _imports(self, call: str, template: str) -> list[str]:
        text = "\n".join([*(line for one in self.bodies for line in one.lines), call])
        library = sorted(set(FUNCTION_CALL.findall(text)) & LIBRARY)
        modules = (one.split(":") for one in template.split(";"))
        imports = [f"from esper.kernels.{module} import {functions}" for module, functions in modules]
        if library:
            imports.append(f"from esper.kernels.functions import {', '.join(library)}")
        if shared := [name for name in SHARING if f"{name}(" in text]:
            imports.append(f"from esper.kernels.sharing import {', '.join(shared)}")
        return sorted(imports)


def identifier(name: str) -> str:
    return re.sub(r"\W", "_", name.removeprefix("#"))


def _common_factor(size: Dim) -> int:
    return gcd(*(coefficient for _, coefficient in size.terms))
