"""Depthwise convolution: each channel of a map with filters of its own (Chollet 2016, arXiv:1610.02357).

A program holds a tile of pixels by channels of its result and goes over the taps of the filter; with the
channels last, a row of the tile lies together in memory. The gradient of the input gathers from the windows
that read an element, so nobody adds to what another program writes. That of the weights is the sum over all
pixels: each program adds up a part of them in registers and writes it to its own line of a [parts, weights]
buffer, which `columns.finish` adds up.

Arguments that both kernels share, with tuples as in `windows`:
x, g: pointers to maps. KERNEL, PADDING: of each axis. STRIDE, DILATION: of all of them. There are MULTIPLIER
filters for each channel of x, and so MULTIPLIER times as many channels of the result.
"""

import triton
import triton.language as tl

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
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The convolution of x, or with BACK the gradient of its operand; then x is the result's gradient.

    Grid: (ceil(pixels of the result / BLOCK_P), ceil(CHANNELS / BLOCK_C)). CHANNELS: of the result.
    weight_strides: (filter, d, h, w).
    """
    pixel, channel = pixels_by_channels(tl.program_id(0), tl.program_id(1), CHANNELS_LAST, BLOCK_P, BLOCK_C)
    n, d, h, w = place_of(pixel, result_sizes)
    inside = (pixel < N * result_sizes[0] * result_sizes[1] * result_sizes[2]) & (channel < CHANNELS)
    # Weights go through a tile of one axis: in that of the whole, each thread would load all that it needs.
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    filters = channels
    source = channel // MULTIPLIER
    if BACK:
        filters *= MULTIPLIER
        source = channel * MULTIPLIER
    sums = tl.zeros(inside.shape, tl.float32)
    for member in range(MULTIPLIER if BACK else 1):
        for line in range(KERNEL[0] * KERNEL[1]):
            tap_d = line // KERNEL[1]
            tap_h = line % KERNEL[1]
            x_d, on_d = tapped(d, tap_d, x_sizes[0], STRIDE, PADDING[0], DILATION, BACK)
            x_h, on_h = tapped(h, tap_h, x_sizes[1], STRIDE, PADDING[1], DILATION, BACK)
            taps = weight + (filters + member) * weight_strides[0]
            taps += tap_d * weight_strides[1] + tap_h * weight_strides[2]
            for tap_w in tl.static_range(KERNEL[2]):
                x_w, on_w = tapped(w, tap_w, x_sizes[2], STRIDE, PADDING[2], DILATION, BACK)
                factor = tl.load(taps + tap_w * weight_strides[3], channels < CHANNELS, 0.0)
                factor = factor[None, :] if CHANNELS_LAST else factor[:, None]
                offset = offset_of(n, source + member, x_d, x_h, x_w, x_strides)
                value = tl.load(x + offset, inside & (on_d & on_h & on_w), 0.0)
                sums += value.to(tl.float32) * factor.to(tl.float32)
    tl.store(result + offset_of(n, channel, d, h, w, result_strides), sums, inside)


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
    for _ in tl.static_range(KERNEL[2]):
        sums = sums + (tl.zeros([BLOCK_P, BLOCK_C] if CHANNELS_LAST else [BLOCK_C, BLOCK_P], tl.float32),)
    for block in range(part, tl.cdiv(pixels, BLOCK_P), tl.num_programs(2)):
        pixel, channel = pixels_by_channels(block, tl.program_id(0), CHANNELS_LAST, BLOCK_P, BLOCK_C)
        n, d, h, w = place_of(pixel, g_sizes)
        inside = (pixel < pixels) & (channel < CHANNELS)
        gradient = tl.load(g + offset_of(n, channel, d, h, w, g_strides), inside, 0.0).to(tl.float32)
        x_d, on_d = tapped(d, tap_d, x_sizes[0], STRIDE, PADDING[0], DILATION, False)
        x_h, on_h = tapped(h, tap_h, x_sizes[1], STRIDE, PADDING[1], DILATION, False)
        longer = ()
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
