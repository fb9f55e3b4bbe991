"""Vectors of eight elements that one thread loads at once, taken apart and put together in registers.

Neighbours of an element are elements of the same vector or of the one beside it, so what reads shifted
places, as a filter does, loads whole vectors and shifts by naming other elements. Vectors lie at multiples of
eight, and lines are multiples of eight long: a vector is on the map whole or not at all.
"""

import triton
import triton.language as tl

WIDTH = tl.constexpr(8)


@triton.jit
def lanes(tile):
    """The eight tiles [A, B] along the last axis of `tile` [A, B, 8]."""
    even, odd = tl.split(tl.reshape(tile, [tile.shape[0], tile.shape[1], 2, 2, 2]))
    even_low, even_high = tl.split(even)
    odd_low, odd_high = tl.split(odd)
    a, e = tl.split(even_low)
    c, g = tl.split(even_high)
    b, f = tl.split(odd_low)
    d, h = tl.split(odd_high)
    return (a, b, c, d, e, f, g, h)


@triton.jit
def joined(tiles):
    """What `lanes` takes apart: [A, B, 8] of eight tiles [A, B]."""
    even = tl.join(tl.join(tiles[0], tiles[4]), tl.join(tiles[2], tiles[6]))
    odd = tl.join(tl.join(tiles[1], tiles[5]), tl.join(tiles[3], tiles[7]))
    return tl.reshape(tl.join(even, odd), [tiles[0].shape[0], tiles[0].shape[1], WIDTH])


@triton.jit
def load_lanes(pointer, step, mask):
    """Eight elements, `step` apart, from each of `pointer` [A, B]: eight float32 tiles, 0 outside `mask`."""
    places = pointer[:, :, None] + tl.arange(0, WIDTH)[None, None, :] * step
    return lanes(tl.load(places, mask[:, :, None], 0.0).to(tl.float32))


@triton.jit
def store_lanes(pointer, tiles, mask):
    """Stores eight tiles [A, B] as the vectors at `pointer` [A, B]."""
    places = pointer[:, :, None] + tl.arange(0, WIDTH)[None, None, :]
    tl.store(places, joined(tiles), mask[:, :, None])


@triton.jit
def load_around(pointer, place, size, mask, FIRST: tl.constexpr, LAST: tl.constexpr):
    """The elements of the vectors FIRST to LAST, counted from the one at `pointer`: float32 tiles, in order.

    place: of that one along its line, which has `size` elements; 0 beyond the line.
    """
    found = ()
    for vector in tl.static_range(FIRST, LAST + 1):
        start = place + vector * WIDTH
        found = found + load_lanes(pointer + vector * WIDTH, 1, mask & (start >= 0) & (start < size))
    return found


@triton.jit
def zero_lanes(shape: tl.constexpr):
    """Eight float32 tiles of zeros."""
    tile = tl.zeros(shape, tl.float32)
    return (tile, tile, tile, tile, tile, tile, tile, tile)


@triton.jit
def add_scaled(sums, found, factor, SHIFT: tl.constexpr, STRIDE: tl.constexpr):
    """sums[i] + found[i * STRIDE + SHIFT] * factor, for each of the eight."""
    result = ()
    for lane in tl.static_range(WIDTH):
        result = result + (sums[lane] + found[lane * STRIDE + SHIFT] * factor,)
    return result


@triton.jit
def add_products(total, factors, found, SHIFT: tl.constexpr, STRIDE: tl.constexpr):
    """`total` and the eight factors[i] * found[i * STRIDE + SHIFT] added up."""
    for lane in tl.static_range(WIDTH):
        total += factors[lane] * found[lane * STRIDE + SHIFT]
    return total
