"""What goes into a checkpoint comes out of it: every kind of value, bit for bit."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esper.kasmina.checkpoints.values import Decoder, Encoder
from esper.kasmina.errors import CannotCheckpoint
from esper.kasmina.host.blending import AlphaSchedule
from esper.leyline.stages import SeedStage


def through(value: Any) -> Any:
    """The value after a way through JSON text."""
    encoder = Encoder()
    text = json.dumps(encoder.encode(value, "value"), allow_nan=False)
    return Decoder(encoder.tensors).decode(json.loads(text))


def same(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        return first == second or (math.isnan(first) and math.isnan(second))
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text()
KEYS = st.integers() | st.text() | st.tuples(st.text(), st.integers())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple) | st.sets(KEYS),
)


@given(VALUES)
def test_values_survive_json(value: Any) -> None:
    assert same(through(value), value)


@pytest.mark.parametrize(
    "value",
    [
        Counter({3: 2, 7: 1}),
        deque([1.0, 2.0], maxlen=3),
        SeedStage.BLENDING,
        AlphaSchedule("cosine", 7),
        torch.bfloat16,
        torch.device("cpu"),
        {"dict": {"tensor": "0"}},
        {1: {"tuple": (1, 2)}, 2: -0.0},
        frozenset({1, 2}),
    ],
    ids=repr,
)
def test_other_kinds_keep_their_type(value: Any) -> None:
    found = through(value)
    assert found == value
    assert isinstance(found, type(value)) or isinstance(value, frozenset)
    assert not isinstance(value, deque) or found.maxlen == value.maxlen


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.complex64],
)
def test_tensors_keep_dtype_shape_and_bits(dtype: torch.dtype) -> None:
    for shape in ((), (0,), (3,), (2, 0, 3), (2, 3, 4)):
        value = torch.randn(shape).mul(9).to(dtype)
        found = through(value)
        assert (found.dtype, found.shape) == (dtype, value.shape)
        assert torch.equal(found, value)


def test_a_tensors_order_in_memory_is_kept() -> None:
    for value in (torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(3, 4).t()):
        found = through(value)
        assert found.stride() == value.stride()
        assert torch.equal(found, value)


def test_views_and_shared_tensors_are_separate_values_written_once() -> None:
    whole = torch.arange(6.0)
    encoder = Encoder()
    values = json.loads(json.dumps(encoder.encode([whole, whole, whole[2:4], whole[::2]], "value")))
    assert len(encoder.tensors) == 3
    found: list[Tensor] = Decoder(encoder.tensors).decode(values)
    whole.zero_()
    found[0].add_(1)
    assert [tensor.tolist() for tensor in found[1:]] == [[0, 1, 2, 3, 4, 5], [2, 3], [0, 2, 4]]


def test_numpy_values_come_back_as_arrays_and_plain_numbers() -> None:
    array = np.arange(5, dtype=np.uint32)
    assert np.array_equal(through(array), array) and through(array).dtype == array.dtype
    assert (through(np.float64(0.1)), through(np.int64(3))) == (0.1, 3)


def test_what_is_not_data_is_refused_with_its_place() -> None:
    with pytest.raises(CannotCheckpoint, match=r"`value\.a\[1\]` is a function"):
        Encoder().encode({"a": [0, lambda: None]}, "value")
    with pytest.raises(CannotCheckpoint, match="is a Signal"):
        import signal

        Encoder().encode(signal.SIGINT, "value")
