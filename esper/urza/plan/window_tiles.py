"""How large a tile the kernels of windows take: a small model of the GPU, no measurements."""

from __future__ import annotations

from esper.urza.kernel import VECTOR, Configuration
from esper.urza.plan.tiles import Tile, power_of_two

REGISTERS = 88
"""About as many sums as a thread holds beside what it needs for the places of its elements."""

LONG = 5
"""Up to so many taps of the last axis, and their weights, are loaded ahead of their use."""

WARPS = 4


def depthwise_tile(channels: int, taps: int, channels_last: bool) -> Tile:
    """For `depthwise` along a last axis of `taps`: BLOCK_P, BLOCK_C.

    A thread goes over a few pixels of each of its channels, so that a weight is loaded once for these.
    """
    block_c = min(64 if channels_last else 2, power_of_two(channels))
    return _tile(block_c, (16 if channels_last else 8) // (2 if taps > LONG else 1))


def depthwise_vectors(channels: int) -> tuple[Configuration, ...]:
    """For `depthwise` over vectors of pixels: a vector for each thread, or half as many threads."""
    return _vectors(min(2, power_of_two(channels)))


def depthwise_sums_vectors(channels: int) -> tuple[Configuration, ...]:
    """The same for `depthwise_weight_grad`."""
    return _vectors(min(8, power_of_two(channels)))


def _vectors(block_c: int) -> tuple[Configuration, ...]:
    return tuple(
        Configuration(
            {"BLOCK_P": 32 * warps * VECTOR // block_c, "BLOCK_C": block_c, "VECTOR": VECTOR}, warps, 3
        )
        for warps in (WARPS, WARPS // 2)
    )


def depthwise_sums_tile(channels: int, taps: int, channels_last: bool) -> Tile:
    """For `depthwise_weight_grad` along a last axis of `taps`: BLOCK_P, BLOCK_C.

    A program holds its tile once for each tap.
    """
    block_c = min(32 if channels_last else 8, power_of_two(channels))
    return _tile(block_c, 1 << (min(8, REGISTERS // taps).bit_length() - 1))


def _tile(block_c: int, elements: int) -> Tile:
    """A tile with so many `elements` a thread; if that spills, half of them."""
    choices = [
        Configuration(
            {"BLOCK_P": max(1, 32 * WARPS * count // block_c), "BLOCK_C": block_c, "VECTOR": 1}, WARPS, 3
        )
        for count in (elements, elements // 2)
    ]
    return Tile(dict(choices[0].constexprs), WARPS, alternatives=tuple(choices[1:]))


def pooling_tile() -> Tile:
    """For the kernels of `pooling`: BLOCK."""
    others = [(512, 2 * WARPS), (256, WARPS)]
    alternatives = tuple(Configuration({"BLOCK": size}, warps, 3) for size, warps in others)
    return Tile({"BLOCK": 512}, WARPS, alternatives=alternatives)
