"""Values for size symbols: `--size N=64 --size S=28,28`, their defaults, and the symbols of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from esper.ir.dims import default_size
from esper.ir.graph import BlueprintIR
from esper.lang.errors import BadSize, UnknownSize
from esper.lang.names import did_you_mean

SizeValue = int | tuple[int, ...]

MAX_SIZE = 2**31 - 1


def parse_size_settings(settings: Iterable[str]) -> dict[str, SizeValue]:
    """`["N=64", "S=28,28"]` as `{"N": 64, "S": (28, 28)}`; a trailing comma makes one axis: `S=40,`.

    Raises `BadSize`.
    """
    sizes: dict[str, SizeValue] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise BadSize(text=setting, reason="there is no `=` with a name before it")
        parts = [part.strip() for part in text.split(",")]
        is_list = len(parts) > 1
        if is_list and not parts[-1]:
            parts.pop()
        try:
            numbers = tuple(int(part) for part in parts)
        except ValueError:
            raise BadSize(text=setting, reason=f"`{text}` is no integer or list of them") from None
        if any(not 1 <= number <= MAX_SIZE for number in numbers):
            raise BadSize(text=setting, reason=f"a size is at least 1 and at most {MAX_SIZE}")
        sizes[name] = numbers if is_list else numbers[0]
    return sizes


def ranks_of(sizes: Mapping[str, SizeValue]) -> dict[str, int]:
    """How many axes each `...S` stands for: a single number counts as one axis.

    Raises `BadSize` for a value that is neither an integer nor a tuple or list of them.
    """
    return {name: len(_numbers(name, value)) for name, value in sizes.items()}


def _numbers(name: str, value: object) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise BadSize(text=f"{name}={value!s:.40}", reason="it is no integer or tuple of them")
    return numbers


def size_values(ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None) -> dict[str, int]:
    """A number for each size symbol of `ir`: from `sizes`, else N = 32, axes of a `...` 32, others 64.

    Raises `UnknownSize` for a name that the graph does not have, and `BadSize` for a wrong count of axes.
    """
    given = dict(sizes or {})
    values: dict[str, int] = {}
    stems: dict[str, list[str]] = {}
    for symbol in ir.symbols:
        stems.setdefault(symbol.partition(".")[0], []).append(symbol)
        values[symbol] = default_size(symbol)
    for name, value in given.items():
        numbers = _numbers(name, value)
        if not numbers:
            continue  # a `...` that stands for no axes leaves no symbol
        if name not in stems:
            known = ", ".join(stems) or "none"
            raise UnknownSize(
                blueprint=ir.name, name=name, suggestion=did_you_mean(name, stems, f"it has {known}")
            )
        if len(numbers) != len(stems[name]):
            reason = f"`{name}` stands for {len(stems[name])} axes"
            raise BadSize(text=f"{name}={','.join(map(str, numbers))}", reason=reason)
        values.update(zip(stems[name], numbers, strict=True))
    return values
