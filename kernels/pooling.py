"""Pooling over windows of fixed sides, or over a fixed number of windows that cover an axis.

A program holds a tile of results and goes over their windows. Backward, a program holds elements of x and
goes over the windows that they are in: it gathers, nobody adds to what another program writes. The greatest
element of a window is found again there, by the same comparisons as forward.

Arguments that the kernels share, with tuples as in `windows`:
C: channels. x_sizes, y_sizes: of x and of what pooling makes of it. KERNEL, PADDING: of each axis. STRIDE: of
all of them. ADAPTIVE: KERNEL is how many windows cover each axis; then STRIDE and PADDING mean nothing.
"""

import triton
import triton.language as tl

from esper.kernels.windows import longest_window, most_windows, place_of, window_of, windows_over


@triton.jit
def max_pool(
    x,
    result,
    indices,
    N,
    x_sizes,
    y_sizes,
    x_strides,
    C: tl.constexpr,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The greatest element of each window; grid: (ceil(elements of the result / BLOCK),).

    result, indices: None, or pointers to contiguous [N, C, *y_sizes]; indices: int64, row-major in x_sizes.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < N * C * y_sizes[0] * y_sizes[1] * y_sizes[2]
    plane, d, h, w = place_of(index, y_sizes)
    x += plane // C * x_strides[0] + plane % C * x_strides[1]
    best, found = _greatest(x, mask, d, h, w, x_sizes, x_strides, KERNEL, PADDING, STRIDE, ADAPTIVE)
    if result is not None:
        tl.store(result + index, best, mask)
    if indices is not None:
        tl.store(indices + index, found.to(tl.int64), mask)


@triton.jit
def max_pool_backward(
    g,
    x,
    result,
    N,
    x_sizes,
    y_sizes,
    g_strides,
    x_strides,
    C: tl.constexpr,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of x, contiguous, from that of the result, g; grid: (ceil(elements of x / BLOCK),)."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < N * C * x_sizes[0] * x_sizes[1] * x_sizes[2]
    plane, d, h, w = place_of(index, x_sizes)
    own = (d * x_sizes[1] + h) * x_sizes[2] + w
    x += plane // C * x_strides[0] + plane % C * x_strides[1]
    g += plane // C * g_strides[0] + plane % C * g_strides[1]
    sums = tl.zeros([BLOCK], tl.float32)
    y_d, end_d = windows_over(d, x_sizes[0], y_sizes[0], KERNEL[0], STRIDE, PADDING[0], ADAPTIVE)
    for _ in range(most_windows(x_sizes[0], KERNEL[0], STRIDE, ADAPTIVE)):
        y_h, end_h = windows_over(h, x_sizes[1], y_sizes[1], KERNEL[1], STRIDE, PADDING[1], ADAPTIVE)
        for _ in range(most_windows(x_sizes[1], KERNEL[1], STRIDE, ADAPTIVE)):
            y_w, end_w = windows_over(w, x_sizes[2], y_sizes[2], KERNEL[2], STRIDE, PADDING[2], ADAPTIVE)
            for _ in range(most_windows(x_sizes[2], KERNEL[2], STRIDE, ADAPTIVE)):
                held = mask & (y_d < end_d) & (y_h < end_h) & (y_w < end_w)
                _, found = _greatest(
                    x, held, y_d, y_h, y_w, x_sizes, x_strides, KERNEL, PADDING, STRIDE, ADAPTIVE
                )
                offset = y_d * g_strides[2] + y_h * g_strides[3] + y_w * g_strides[4]
                sums += tl.load(g + offset, held & (found == own), 0.0).to(tl.float32)
                y_w += 1
            y_h += 1
        y_d += 1
    tl.store(result + index, sums, mask)


@triton.jit
def avg_pool(
    x,
    result,
    N,
    x_sizes,
    y_sizes,
    x_strides,
    C: tl.constexpr,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    COUNT_PADDING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The mean of each window; grid: (ceil(elements of the result / BLOCK),).

    result: pointer to contiguous [N, C, *y_sizes]. COUNT_PADDING: means are over windows with their padding.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < N * C * y_sizes[0] * y_sizes[1] * y_sizes[2]
    plane, d, h, w = place_of(index, y_sizes)
    x += plane // C * x_strides[0] + plane % C * x_strides[1]
    sums = tl.zeros([BLOCK], tl.float32)
    x_d, end_d = window_of(d, x_sizes[0], KERNEL[0], STRIDE, PADDING[0], ADAPTIVE)
    for _ in range(longest_window(x_sizes[0], KERNEL[0], ADAPTIVE)):
        x_h, end_h = window_of(h, x_sizes[1], KERNEL[1], STRIDE, PADDING[1], ADAPTIVE)
        for _ in range(longest_window(x_sizes[1], KERNEL[1], ADAPTIVE)):
            x_w, end_w = window_of(w, x_sizes[2], KERNEL[2], STRIDE, PADDING[2], ADAPTIVE)
            for _ in range(longest_window(x_sizes[2], KERNEL[2], ADAPTIVE)):
                held = mask & (x_d < end_d) & (x_h < end_h) & (x_w < end_w)
                offset = x_d * x_strides[2] + x_h * x_strides[3] + x_w * x_strides[4]
                sums += tl.load(x + offset, held, 0.0).to(tl.float32)
                x_w += 1
            x_h += 1
        x_d += 1
    count = _count(d, h, w, x_sizes, KERNEL, PADDING, STRIDE, ADAPTIVE, COUNT_PADDING)
    tl.store(result + index, sums / count, mask)


@triton.jit
def avg_pool_backward(
    g,
    result,
    N,
    x_sizes,
    y_sizes,
    g_strides,
    C: tl.constexpr,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    COUNT_PADDING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of x, contiguous, from that of the result, g; grid: (ceil(elements of x / BLOCK),)."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < N * C * x_sizes[0] * x_sizes[1] * x_sizes[2]
    plane, d, h, w = place_of(index, x_sizes)
    g += plane // C * g_strides[0] + plane % C * g_strides[1]
    sums = tl.zeros([BLOCK], tl.float32)
    y_d, end_d = windows_over(d, x_sizes[0], y_sizes[0], KERNEL[0], STRIDE, PADDING[0], ADAPTIVE)
    for _ in range(most_windows(x_sizes[0], KERNEL[0], STRIDE, ADAPTIVE)):
        y_h, end_h = windows_over(h, x_sizes[1], y_sizes[1], KERNEL[1], STRIDE, PADDING[1], ADAPTIVE)
        for _ in range(most_windows(x_sizes[1], KERNEL[1], STRIDE, ADAPTIVE)):
            y_w, end_w = windows_over(w, x_sizes[2], y_sizes[2], KERNEL[2], STRIDE, PADDING[2], ADAPTIVE)
            for _ in range(most_windows(x_sizes[2], KERNEL[2], STRIDE, ADAPTIVE)):
                held = mask & (y_d < end_d) & (y_h < end_h) & (y_w < end_w)
                offset = y_d * g_strides[2] + y_h * g_strides[3] + y_w * g_strides[4]
                share = tl.load(g + offset, held, 0.0).to(tl.float32)
                count = _count(y_d, y_h, y_w, x_sizes, KERNEL, PADDING, STRIDE, ADAPTIVE, COUNT_PADDING)
                sums += tl.where(held, share / count, 0.0)
                y_w += 1
            y_h += 1
        y_d += 1
    tl.store(result + index, sums, mask)


@triton.jit
def _greatest(
    x, mask, d, h, w, x_sizes, x_strides, KERNEL, PADDING, STRIDE: tl.constexpr, ADAPTIVE: tl.constexpr
):
    """The greatest element of the windows at (d, h, w), float32, and its index, int32; the first of equals.

    A NaN counts as greater than all before it, so the last one is found. x: pointers to the planes' starts.
    """
    best = tl.full(mask.shape, float("-inf"), tl.float32)
    found = tl.full(mask.shape, -1, tl.int32)
    x_d, end_d = window_of(d, x_sizes[0], KERNEL[0], STRIDE, PADDING[0], ADAPTIVE)
    for _ in range(longest_window(x_sizes[0], KERNEL[0], ADAPTIVE)):
        x_h, end_h = window_of(h, x_sizes[1], KERNEL[1], STRIDE, PADDING[1], ADAPTIVE)
        for _ in range(longest_window(x_sizes[1], KERNEL[1], ADAPTIVE)):
            x_w, end_w = window_of(w, x_sizes[2], KERNEL[2], STRIDE, PADDING[2], ADAPTIVE)
            for _ in range(longest_window(x_sizes[2], KERNEL[2], ADAPTIVE)):
                held = mask & (x_d < end_d) & (x_h < end_h) & (x_w < end_w)
                offset = x_d * x_strides[2] + x_h * x_strides[3] + x_w * x_strides[4]
                value = tl.load(x + offset, held, 0.0).to(tl.float32)
                better = held & ((value > best) | (value != value) | (found < 0))
                best = tl.where(better, value, best)
                found = tl.where(better, (x_d * x_sizes[1] + x_h) * x_sizes[2] + x_w, found)
                x_w += 1
            x_h += 1
        x_d += 1
    return best, found


@triton.jit
def _count(
    d,
    h,
    w,
    x_sizes,
    KERNEL,
    PADDING,
    STRIDE: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    COUNT_PADDING: tl.constexpr,
):
    """How many elements the mean of the window at (d, h, w) is over, float32."""
    if ADAPTIVE or not COUNT_PADDING:
        first_d, end_d = window_of(d, x_sizes[0], KERNEL[0], STRIDE, PADDING[0], ADAPTIVE)
        first_h, end_h = window_of(h, x_sizes[1], KERNEL[1], STRIDE, PADDING[1], ADAPTIVE)
        first_w, end_w = window_of(w, x_sizes[2], KERNEL[2], STRIDE, PADDING[2], ADAPTIVE)
        count = (end_d - first_d) * (end_h - first_h) * (end_w - first_w)
        return tl.maximum(count, 1).to(tl.float32)
    else:
        return KERNEL[0] * KERNEL[1] * KERNEL[2] * 1.0
