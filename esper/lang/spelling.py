"""How a source spells what a graph holds: sizes, and the values of arguments."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence

from esper.ir.dims import Dim, Size, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR
from esper.ir.operator import AttrValue
from esper.ir.types import DType, TensorType
from esper.lang.inputs import DEFAULT_RANK
from esper.lang.keywords import KEYWORDS

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_WORDS = frozenset(word.lower() for word in KEYWORDS)
_AXIS = re.compile(r"(?P<stem>[A-Za-z_]\w*)\.(?P<axis>[0-9]+)", re.ASCII)


class Unspelled(Exception):
    """The language has no spelling for a value; the message says which."""


class AxisAlone(Exception):
    """An axis of `...{stem}` stands without the others."""

    def __init__(self, stem: str) -> None:
        super().__init__(stem)
        self.stem = stem


def is_name(text: str) -> bool:
    """Whether a source can bind `text`."""
    return NAME.fullmatch(text) is not None and text not in _WORDS


def free_name(stem: str, taken: Iterable[str]) -> str:
    """`stem`, `stem2`, `stem3`, …: the first that is a name and not in `taken`."""
    stem = stem.replace(".", "_")
    used, count, found = set(taken), 1, stem
    while found in used or not is_name(found):
        count += 1
        found = f"{stem}{count}"
    return found


class Sizes:
    """Size symbols under names that a source can bind; the axes of a `...S` are spelled as one where they
    stand together."""

    def __init__(self, ir: BlueprintIR, taken: Iterable[str], apart: Iterable[str] = ()) -> None:
        """taken: names of other things. apart: of which `...` each axis has a name of its own."""
        names = set(taken)
        self.spread: dict[str, str] = {}
        self._names: dict[str, Size] = {}
        self._bound: set[str] = set()
        for stem, axes in _axes(ir.symbols).items():
            if axes == [*range(DEFAULT_RANK)] and stem not in apart:
                self.spread[stem] = free_name(stem, names)
                names.add(self.spread[stem])
        for one in ir.symbols:
            if not self._is_spread(one):
                found = free_name(one if is_name(one) else one.replace(".", ""), names)
                names.add(found)
                self._names[one] = symbol(found)
        self.names = frozenset(names) - frozenset(taken)

    def declared(self, type: TensorType) -> str:
        """The type of an input, which binds the symbols that stand alone on its axes. Raises as `listed`."""
        return f"{type.dtype}{self._listed(type.shape, is_binding=True)}"

    def listed(self, sizes: Sequence[Size]) -> str:
        """A list of sizes. Raises `Unspelled` and `AxisAlone`."""
        return self._listed(sizes, is_binding=False)

    def _listed(self, sizes: Sequence[Size], *, is_binding: bool) -> str:
        items: list[str] = []
        rest = [*sizes]
        while rest:
            stem = next((one for one in self.spread if rest[:DEFAULT_RANK] == _axes_of(one)), None)
            taken = rest[: 1 if stem is None else DEFAULT_RANK]
            del rest[: len(taken)]
            if is_binding:
                self._bound.update(str(size) for size in taken if size_symbols(size) == {str(size)})
            items.append(self.size(taken[0]) if stem is None else f"...{self.spread[stem]}")
        return f"[{', '.join(items)}]"

    def size(self, size: Size) -> str:
        """One size. Raises `Unspelled` and `AxisAlone`."""
        if isinstance(size, int):
            return str(size)
        for one in sorted(size_symbols(size)):
            if self._is_spread(one):
                raise AxisAlone(one.partition(".")[0])
            if one not in self._bound:
                raise Unspelled(f"the size {size} holds `{one}`, which is no axis of an input before it")
        return str(substitute(size, self._names))

    def _is_spread(self, name: str) -> bool:
        found = _AXIS.fullmatch(name)
        return found is not None and found["stem"] in self.spread


def _axes(symbols: Iterable[str]) -> dict[str, list[int]]:
    """The axes of each `...S`, in order."""
    found: dict[str, list[int]] = {}
    for axis in filter(None, map(_AXIS.fullmatch, symbols)):
        found.setdefault(axis["stem"], []).append(int(axis["axis"]))
    return {stem: sorted(axes) for stem, axes in found.items()}


def _axes_of(stem: str) -> list[Size]:
    return [symbol(f"{stem}.{axis}") for axis in range(DEFAULT_RANK)]


def argument(value: AttrValue, name: str, sizes: Sizes, taken: Iterable[str]) -> str:
    """The value of the argument `name`. taken: names of tensors and sizes, which a bare word would mean.

    Raises `Unspelled` and `AxisAlone`.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case DType():
            return value.value
        case float():
            if not math.isfinite(value):
                raise Unspelled(f"{value} is no number of a source")
            return repr(value)
        case str():
            return value if is_name(value) and value not in taken else _text(value)
        case int() | Dim():
            return sizes.size(value)
        case tuple():
            if not all(isinstance(item, int | Dim) and not isinstance(item, bool) for item in value):
                raise Unspelled(f"`{name}` is a list of what is no size")
            return sizes.listed([item for item in value if isinstance(item, int | Dim)])
        case BlueprintIR():
            raise Unspelled(f"`{name}` is a graph")


def _text(value: str) -> str:
    if not value.isprintable():
        raise Unspelled(f"the text {value!a}")
    return json.dumps(value, ensure_ascii=False)
