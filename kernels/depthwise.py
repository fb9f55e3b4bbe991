"""Depthwise convolution: each channel of a map with filters of its own (Chollet 2016, arXiv:1610.02357).

A program holds a tile of pixels by channels of its result and goes over the taps of the filter; with the
channels last, a row of the tile lies together in memory. The gradient of the input gathers from the windows
that read an element, so nobody adds to what another program writes. That of the weights is the sum over all
pixels: each program adds up a part of them in registers and writes it to its own line of a [parts, weights]
buffer, which `columns.finish` adds up.

With VECTOR, 8, a program goes over vectors of pixels along the last axis, and a tap reads the vectors around
its own: lines of x and of the result are multiples of 8 long, channels come first.

Arguments that both kernels share, with tuples as in `windows`:
x, g: pointers to maps. KERNEL, PADDING: of each axis. STRIDE, DILATION: of all of them. There are MULTIPLIER
filters for each channel of x, and so MULTIPLIER times as many channels of the result.
"""

import triton
import triton.language as tl

from esper.kernels.lanes import (
    WIDTH,
    add_products,
    add_scaled,
    load_around,
    load_lanes,
    store_lanes,
    zero_lanes,
)
from esper.kernels.windows import offset_of, pixels_by_channels, place_of, tapped


@triton.jit
def depthwise(
    x,
    weight,
    result,
    N,
    x_sizes,
    result_sizes,
    x_strides,
    weight_strides,
    result_strides,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    MULTIPLIER: tl.constexpr,
    BACK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The convolution of x, or with BACK the gradient of its operand; then x is the result's gradient.

    Grid: (ceil(pixels of the result / BLOCK_P), ceil(CHANNELS / BLOCK_C)). CHANNELS: of the result.
    weight_strides: (filter, d, h, w). VECTOR: 1, or 8 where STRIDE is 1 or there is no BACK.
    """
    vector, channel = pixels_by_channels(
        tl.program_id(0), tl.program_id(1), CHANNELS_LAST, BLOCK_P // VECTOR, BLOCK_C
    )
    length = result_sizes[2] // VECTOR
    n, d, h, w = place_of(vector, (result_sizes[0], result_sizes[1], length))
    w *= VECTOR
    inside = (vector < N * result_sizes[0] * result_sizes[1] * length) & (channel < CHANNELS)
    # Weights go through a tile of one axis: in that of the whole, each thread would load all that it needs.
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    filters = channels
    source = channel // MULTIPLIER
    if BACK:
        filters *= MULTIPLIER
        source = channel * MULTIPLIER
    if VECTOR == WIDTH:
        sums = zero_lanes(inside.shape)
    else:
        sums = tl.zeros(inside.shape, tl.float32)
    for member in range(MULTIPLIER if BACK else 1):
        for line in range(KERNEL[0] * KERNEL[1]):
            tap_d = line // KERNEL[1]
            tap_h = line % KERNEL[1]
            x_d, on_d = tapped(d, tap_d, x_sizes[0], STRIDE, PADDING[0], DILATION, BACK)
            x_h, on_h = tapped(h, tap_h, x_sizes[1], STRIDE, PADDING[1], DILATION, BACK)
            taps = weight + (filters + member) * weight_strides[0]
            taps += tap_d * weight_strides[1] + tap_h * weight_strides[2]
            if VECTOR == WIDTH:
                place = w * STRIDE
                start = x + offset_of(n, source + member, x_d, x_h, place, x_strides)
                near: tl.constexpr = _shift(KERNEL[2] - 1 if BACK else 0, PADDING[2], DILATION, BACK)
                far: tl.constexpr = _shift(0 if BACK else KERNEL[2] - 1, PADDING[2], DILATION, BACK)
                first: tl.constexpr = near // WIDTH
                last: tl.constexpr = ((WIDTH - 1) * STRIDE + far) // WIDTH
                found = load_around(start, place, x_sizes[2], inside & (on_d & on_h), first, last)
            for tap_w in tl.static_range(KERNEL[2]):
                factor = tl.load(taps + tap_w * weight_strides[3], channels < CHANNELS, 0.0).to(tl.float32)
                factor = factor[None, :] if CHANNELS_LAST else factor[:, None]
                if VECTOR == WIDTH:
                    sums = add_scaled(
                        sums,
                        found,
                        factor,
                        _shift(tap_w, PADDING[2], DILATION, BACK) - first * WIDTH,
                        STRIDE,
                    )
                else:
                    x_w, on_w = tapped(w, tap_w, x_sizes[2], STRIDE, PADDING[2], DILATION, BACK)
                    offset = offset_of(n, source + member, x_d, x_h, x_w, x_strides)
                    value = tl.load(x + offset, inside & (on_d & on_h & on_w), 0.0)
                    sums += value.to(tl.float32) * factor
    places = result + offset_of(n, channel, d, h, w, result_strides)
    if VECTOR == WIDTH:
        store_lanes(places, sums, inside)
    else:
        tl.store(places, sums, inside)


@triton.jit
def depthwise_weight_grad(
    g,
    x,
    partials,
    N,
    g_sizes,
    x_sizes,
    g_strides,
    x_strides,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    MULTIPLIER: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Sums for the last axis of taps; grid: (ceil(CHANNELS / BLOCK_C), KERNEL[0] * KERNEL[1], parts).

    CHANNELS: of g. partials: float32 pointer to [parts, CHANNELS, *KERNEL].
    """
    line = tl.program_id(1)
    part = tl.program_id(2)
    tap_d = line // KERNEL[1]
    tap_h = line % KERNEL[1]
    pixels = N * g_sizes[0] * g_sizes[1] * g_sizes[2]
    sums = ()
    lines: tl.constexpr = BLOCK_P // VECTOR
    for _ in tl.static_range(KERNEL[2]):
        sums = sums + (tl.zeros([lines, BLOCK_C] if CHANNELS_LAST else [BLOCK_C, lines], tl.float32),)
    for block in range(part, tl.cdiv(pixels, BLOCK_P), tl.num_programs(2)):
        vector, channel = pixels_by_channels(
            block, tl.program_id(0), CHANNELS_LAST, BLOCK_P // VECTOR, BLOCK_C
        )
        n, d, h, w = place_of(vector, (g_sizes[0], g_sizes[1], g_sizes[2] // VECTOR))
        w *= VECTOR
        inside = (vector < pixels // VECTOR) & (channel < CHANNELS)
        gradients = g + offset_of(n, channel, d, h, w, g_strides)
        x_d, on_d = tapped(d, tap_d, x_sizes[0], STRIDE, PADDING[0], DILATION, False)
        x_h, on_h = tapped(h, tap_h, x_sizes[1], STRIDE, PADDING[1], DILATION, False)
        longer = ()
        if VECTOR == WIDTH:
            gradient = load_lanes(gradients, g_strides[4], inside)
            place = w * STRIDE
            start = x + offset_of(n, channel // MULTIPLIER, x_d, x_h, place, x_strides)
            far: tl.constexpr = _shift(KERNEL[2] - 1, PADDING[2], DILATION, False)
            first: tl.constexpr = _shift(0, PADDING[2], DILATION, False) // WIDTH
            last: tl.constexpr = ((WIDTH - 1) * STRIDE + far) // WIDTH
            found = load_around(start, place, x_sizes[2], inside & (on_d & on_h), first, last)
            for tap_w in tl.static_range(KERNEL[2]):
                total = add_products(
                    sums[tap_w],
                    gradient,
                    found,
                    _shift(tap_w, PADDING[2], DILATION, False) - first * WIDTH,
                    STRIDE,
                )
                longer = longer + (total,)
        else:
            gradient = tl.load(gradients, inside, 0.0).to(tl.float32)
            for tap_w in tl.static_range(KERNEL[2]):
                x_w, on_w = tapped(w, tap_w, x_sizes[2], STRIDE, PADDING[2], DILATION, False)
                offset = offset_of(n, channel // MULTIPLIER, x_d, x_h, x_w, x_strides)
                value = tl.load(x + offset, inside & (on_d & on_h & on_w), 0.0)
                longer = longer + (sums[tap_w] + gradient * value.to(tl.float32),)
        sums = longer
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    taps = KERNEL[0] * KERNEL[1] * KERNEL[2]
    weights = partials + (part * CHANNELS + channel) * taps + line * KERNEL[2]
    for tap_w in tl.static_range(KERNEL[2]):
        total = tl.sum(sums[tap_w], 0 if CHANNELS_LAST else 1)
        tl.store(weights + tap_w, total, channel < CHANNELS)


@triton.constexpr_function
def _shift(tap, padding, dilation, back):
    """How far from a place along the last axis a tap reads, in elements; STRIDE is 1 where `back`."""
    return padding - tap * dilation if back else tap * dilation - padding
