"""Who writes the text of operators that move elements: an element as loads from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from esper.ir.graph import Node
from esper.urza.generate.lookups import (
    write_embedding,
    write_gather,
    write_gather_backward,
    write_one_hot,
)
from esper.urza.generate.moves import (
    write_concat,
    write_flip,
    write_pad,
    write_pad_backward,
    write_roll,
    write_slice,
    write_slice_backward,
)
from esper.urza.generate.positions import (
    write_alibi_bias,
    write_rotary_embedding,
    write_sinusoidal_encoding,
)
from esper.urza.generate.resampling import write_interpolate, write_interpolate_backward

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer

PLACES: Mapping[str, Callable[[Writer, Node], str]] = {
    "slice": write_slice,
    "slice_backward": write_slice_backward,
    "flip": write_flip,
    "roll": write_roll,
    "concat": write_concat,
    "pad": write_pad,
    "pad_backward": write_pad_backward,
    "gather": write_gather,
    "gather_backward": write_gather_backward,
    "embedding": write_embedding,
    "one_hot": write_one_hot,
    "interpolate": write_interpolate,
    "interpolate_backward": write_interpolate_backward,
    "rotary_embedding": write_rotary_embedding,
    "sinusoidal_encoding": write_sinusoidal_encoding,
    "alibi_bias": write_alibi_bias,
}
"""The expression of a node in a generated body, over loads that it emits."""
