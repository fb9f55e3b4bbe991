"""Where windows lie on a map: the arithmetic that depthwise convolution and pooling share.

A map is [N, C, D, H, W]; maps of one or two axes have D, or D and H, of size 1. Its elements without the
channel are its pixels, numbered row-major over (n, d, h, w). Sizes, strides and places along axes are tuples
(d, h, w); strides of whole maps are (n, c, d, h, w), in elements.
"""

import triton
import triton.language as tl


@triton.jit
def pixels_by_channels(
    pixel_block,
    channel_block,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Pixels and channels of a tile as int32 columns and rows; the axis that lies contiguous comes last.

    Returns [BLOCK_P, 1] and [1, BLOCK_C] with CHANNELS_LAST, else [1, BLOCK_P] and [BLOCK_C, 1].
    """
    pixel = pixel_block * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
    if CHANNELS_LAST:
        return pixel[:, None], channel[None, :]
    else:
        return pixel[None, :], channel[:, None]


@triton.jit
def place_of(index, sizes):
    """(slice, d, h, w) of a row-major index into [slices, *sizes]."""
    w = index % sizes[2]
    line = index // sizes[2]
    h = line % sizes[1]
    plane = line // sizes[1]
    return plane // sizes[0], plane % sizes[0], h, w


@triton.jit
def offset_of(n, channel, d, h, w, strides):
    """The offset of an element of a map, in elements."""
    return n * strides[0] + channel * strides[1] + d * strides[2] + h * strides[3] + w * strides[4]


@triton.jit
def tapped(
    place, tap, size, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr, BACK: tl.constexpr
):
    """Along one axis, what a tap of a filter joins `place` with, and whether that is on the map.

    Window o reads element i with `tap` where i = o * STRIDE + tap * DILATION - PADDING. From a window to its
    element on a map of `size`; with BACK from an element to its window, of which there are `size`.
    """
    if BACK:
        far = place + PADDING - tap * DILATION
        index = far // STRIDE
        return index, (far >= 0) & (far % STRIDE == 0) & (index < size)
    else:
        index = place * STRIDE + tap * DILATION - PADDING
        return index, (index >= 0) & (index < size)


@triton.jit
def window_of(
    place,
    size,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    ADAPTIVE: tl.constexpr,
):
    """The first element of window `place` along an axis of `size`, and the one after its last, on the map.

    ADAPTIVE: KERNEL windows cover the axis, number i from i * size / KERNEL, rounded down, to
    (i + 1) * size / KERNEL, rounded up.
    """
    if ADAPTIVE:
        return place * size // KERNEL, ((place + 1) * size + (KERNEL - 1)) // KERNEL
    else:
        first = place * STRIDE - PADDING
        return tl.maximum(first, 0), tl.minimum(first + KERNEL, size)


@triton.jit
def longest_window(size, KERNEL: tl.constexpr, ADAPTIVE: tl.constexpr):
    """The most elements that `window_of` finds."""
    if ADAPTIVE:
        return (size + (KERNEL - 1)) // KERNEL + 1
    else:
        return KERNEL


@triton.jit
def windows_over(
    place,
    size,
    windows,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    ADAPTIVE: tl.constexpr,
):
    """The first of the windows that hold element `place`, and the one after the last of them."""
    if ADAPTIVE:
        return place * KERNEL // size, ((place + 1) * KERNEL + (size - 1)) // size
    else:
        passed = tl.maximum(place + (PADDING - KERNEL + STRIDE), 0) // STRIDE
        return passed, tl.minimum((place + PADDING) // STRIDE + 1, windows)


@triton.jit
def most_windows(size, KERNEL: tl.constexpr, STRIDE: tl.constexpr, ADAPTIVE: tl.constexpr):
    """The most windows that `windows_over` finds."""
    if ADAPTIVE:
        return (size + (KERNEL - 1)) // size + 1
    else:
        return (KERNEL + STRIDE - 1) // STRIDE
