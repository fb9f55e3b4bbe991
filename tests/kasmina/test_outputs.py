"""What a module returns, with the slot's tensor replaced: the same kind of container, all else untouched."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from esper.kasmina.host.hook import find, replace, select

Pair = namedtuple("Pair", ["left", "right"])

Kind = tuple[Callable[[Sequence[Tensor]], Any], tuple[int | str, ...]]

KINDS: dict[str, Kind] = {
    "tensor": (lambda parts: parts[0], ()),
    "tuple": (tuple, (0, 1)),
    "list": (list, (0, 1, -1)),
    "named tuple": (lambda parts: Pair(*parts), (0, 1, "left", "right")),
    "dict": (lambda parts: dict(zip("ab", parts, strict=True)), ("a", "b", 0, 1)),
    "ordered dict": (lambda parts: OrderedDict(zip("ab", parts, strict=True)), ("a", "b")),
    "numbered dict": (lambda parts: dict(zip((5, 6), parts, strict=True)), (5, 6)),
    "model output": (
        lambda parts: BaseModelOutputWithPooling(last_hidden_state=parts[0], pooler_output=parts[1]),
        ("last_hidden_state", "pooler_output", 0, 1),
    ),
}

cases = st.sampled_from([(kind, key) for kind, (_, keys) in KINDS.items() for key in keys or (None,)])


def parts_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return list(result.values()) if hasattr(result, "values") else list(result)


@given(cases)
def test_one_part_is_replaced_and_all_else_stays(case: tuple[str, int | str | None]) -> None:
    kind, key = case
    given, other = KINDS[kind][0]([torch.zeros(2), torch.ones(3)]), torch.full((4,), 2.0)
    before = parts_of(given)
    chosen = select(given, key)
    changed = replace(given, key, other)
    assert type(changed) is (Tensor if key is None else type(given))
    assert select(changed, key) is other
    assert [other if part is chosen else part for part in before] == parts_of(changed)
    if key is not None:
        assert changed is not given
        assert all(a is b for a, b in zip(before, parts_of(given), strict=True))


@given(cases, st.sampled_from([7, "nowhere"]))
def test_what_is_not_there_is_not_found(case: tuple[str, int | str | None], key: int | str) -> None:
    given = KINDS[case[0]][0]([torch.zeros(2), torch.ones(3)])
    assert find(given, case[1]) is not None
    if not isinstance(given, Tensor):
        assert find(given, key) is None
    assert find(None, key) is None
    assert find({"a": "text"}, "a") is None
