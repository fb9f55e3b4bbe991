"""Kernels of positions: rotated pairs, sinusoids, biases that fall with the distance.

A frequency `base ** (-2 i / D)` is `2 ** (-k i)` with k = 2 log2(base) / D, which is split in two: the first
part has 12 bits, so its products with i are exact in float32 and angles are as good as their positions are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from esper.ir.graph import Node
from esper.ops.rules import attribute_integer, attribute_number
from esper.urza.generate.places import Places, Tap, Text, plus
from esper.urza.plan.placed import EXACT

if TYPE_CHECKING:
    from esper.urza.generate.writer import Writer


def write_rotary_embedding(writer: Writer, node: Node) -> str:
    """Both elements of a pair are loaded for each of them, so that lanes read side by side."""
    places, x, rank = Places(writer, node), node.operand, node.type.rank
    half = int(str(node.type.shape[-1])) // 2
    at, axis = places.coordinate(rank - 1), attribute_integer(node.attrs, "axis") % rank
    feature = places.let("feature", _feature(str(at), half))
    angle = places.let("angle", _angle(node, places.coordinate(axis), feature))
    a, b = (places.load(x, {rank - 1: Tap(plus(feature, first))}) for first in (0, half))
    cos, sin = places.let("cosine", f"tl.cos({angle})"), places.let("sine", f"tl.sin({angle})")
    into_a, into_b = ("+", "-") if node.attrs["inverse"] else ("-", "+")
    return f"tl.where({at} < {half}, {a} * {cos} {into_a} {b} * {sin}, {b} * {cos} {into_b} {a} * {sin})"


def _feature(at: str, half: int) -> str:
    """The place `at`, below 2 half, modulo half; through one remainder Triton sees lanes side by side."""
    whole = f" % {2 * half})"
    return f"{at.removesuffix(whole)} % {half})" if at.endswith(whole) else f"{at} % {half}"


def write_sinusoidal_encoding(writer: Writer, node: Node) -> str:
    """Sines at even features, cosines of the same angles at odd ones."""
    places = Places(writer, node)
    at = places.coordinate(1)
    angle = places.let("angle", _angle(node, places.coordinate(0), f"({at} // 2)"))
    return f"tl.where({at} % 2 == 0, tl.sin({angle}), tl.cos({angle}))"


def _angle(node: Node, position: Text, feature: str) -> str:
    exponent = 2.0 * math.log2(attribute_number(node.attrs, "base")) / int(str(node.type.shape[-1]))
    mantissa, power = math.frexp(exponent)
    high = math.ldexp(round(mantissa * EXACT), power - 12)
    position = plus(position, attribute_integer(node.attrs, "start"))
    return f"wave_angle({position}, {feature}, {high!r}, {exponent - high!r})"


def write_alibi_bias(writer: Writer, node: Node) -> str:
    """The slope of head h is 2 ** (-8 (h + 1) / B), of B a power of two; of one past B, by h - B + 1/2."""
    places = Places(writer, node)
    heads = int(str(node.type.shape[0]))
    power = 1 << (heads.bit_length() - 1)
    head, query, key = (places.coordinate(axis) for axis in range(3))
    distance = f"-1.0 * tl.abs({query} - {key})" if isinstance(query, str) or isinstance(key, str) else "-0.0"
    if isinstance(head, int):
        return f"{2.0**-8!r} * ({distance})"
    halves = f"{head} * 2 + 2"
    if heads != power:
        halves = f"tl.where({head} < {power}, {halves}, ({head} - {power}) * 2 + 1)"
    return f"power_of_two(({halves}) * {-4.0 / power!r}, 0.0) * ({distance})"
