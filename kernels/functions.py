"""Pointwise functions that Triton lacks, on float32 tiles: activations, their derivatives, random numbers.

Derivatives are written beside their functions. `uniform` is a counter hash: the same bits come out of
`esper.ops.reference.random` for the same seed, offset and index.
"""

import triton
import triton.language as tl

_SQRT_HALF = tl.constexpr(0.7071067811865476)
_INV_SQRT_TWO_PI = tl.constexpr(0.3989422804014327)
_TWICE_SQRT_TWO_OVER_PI = tl.constexpr(1.5957691216057308)
_TWO_PI = tl.constexpr(6.283185307179586)
_SELU_ALPHA = tl.constexpr(1.6732632423543772)
_SELU_SCALE = tl.constexpr(1.0507009873554805)


@triton.jit
def gelu(x):
    """The Gaussian error linear unit x Phi(x), with Phi the standard normal distribution function."""
    return 0.5 * x * (1.0 + tl.math.erf(x * _SQRT_HALF))


@triton.jit
def gelu_gradient(x):
    """Phi(x) + x phi(x)."""
    cdf = 0.5 * (1.0 + tl.math.erf(x * _SQRT_HALF))
    return cdf + x * _INV_SQRT_TWO_PI * tl.exp(-0.5 * x * x)


@triton.jit
def gelu_tanh(x):
    """The tanh form of gelu: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    return x * tl.sigmoid((x + 0.044715 * x * x * x) * _TWICE_SQRT_TWO_OVER_PI)


@triton.jit
def gelu_tanh_gradient(x):
    """With u = sqrt(2 / pi) (x + 0.044715 x^3) and s = sigmoid(2 u): s + 2 x u' s (1 - s)."""
    s = tl.sigmoid((x + 0.044715 * x * x * x) * _TWICE_SQRT_TWO_OVER_PI)
    slope = (1.0 + 0.134145 * x * x) * _TWICE_SQRT_TWO_OVER_PI
    return s + x * slope * s * (1.0 - s)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return tl.sigmoid(x)


@triton.jit
def sigmoid_gradient(x):
    """The derivative s (1 - s), with s = sigmoid(x)."""
    s = tl.sigmoid(x)
    return s * (1.0 - s)


@triton.jit
def silu(x):
    """The sigmoid linear unit x sigmoid(x)."""
    return x * tl.sigmoid(x)


@triton.jit
def silu_gradient(x):
    """The derivative s (1 + x (1 - s)), with s = sigmoid(x)."""
    s = tl.sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


@triton.jit
def tanh(x):
    """The hyperbolic tangent; near 0 by its odd polynomial (Cephes), where 1 - 2 / (exp(2x) + 1) cancels."""
    square = x * x
    series = -5.70498872745e-3 * square + 2.06390887954e-2
    series = series * square - 5.37397155531e-2
    series = series * square + 1.33314422036e-1
    series = series * square - 3.33332819422e-1
    near = x + x * square * series
    size = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(size < 0.625, near, tl.where(x < 0.0, -far, far))


@triton.jit
def tanh_gradient(x):
    """1 - tanh(x)^2, as 4 e / (1 + e)^2 with e = exp(-2 |x|), which does not cancel."""
    e = tl.exp(-2.0 * tl.abs(x))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


@triton.jit
def relu(x):
    """max(x, 0); NaN stays NaN."""
    return tl.where(x <= 0.0, 0.0, x)


@triton.jit
def relu6(x):
    """min(max(x, 0), 6); NaN stays NaN."""
    return tl.where(x <= 0.0, 0.0, tl.where(x >= 6.0, 6.0, x))


@triton.jit
def log1p(x):
    """log(1 + x), exact near 0: the error of rounding 1 + x is divided out (Kahan)."""
    wide = 1.0 + x
    near = tl.log(wide) * (x / (wide - 1.0))
    return tl.where(wide == 1.0, x, tl.where(wide == float("inf"), wide, near))


@triton.jit
def expm1(x):
    """exp(x) - 1, exact near 0: the error of rounding exp(x) is divided out (Kahan)."""
    power = tl.exp(x)
    near = (power - 1.0) * (x / tl.log(power))
    far = (power == 0.0) | (power == float("inf"))
    return tl.where(power == 1.0, x, tl.where(far, power - 1.0, near))


@triton.jit
def round_to_even(x):
    """The nearest integer, of two the even one; adding and subtracting 2^23 rounds, in float32."""
    size = tl.abs(x)
    rounded = (size + 8388608.0) - 8388608.0
    rounded = tl.where(size < 8388608.0, rounded, size)
    return tl.where(x < 0.0, -rounded, rounded)


@triton.jit
def remainder(x, y):
    """What is left of x after whole multiples of y, with the sign of y."""
    rest = x % y
    return tl.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


@triton.jit
def larger(x, y):
    """max(x, y); NaN where one is NaN."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def largest(x, axis: tl.constexpr):
    """The greatest element along `axis`, which stays with size 1; NaN where one is NaN."""
    return tl.reduce(x, axis, larger, keep_dims=True)


@triton.jit
def elu(x, alpha):
    """The value x where it is positive, else alpha (exp(x) - 1)."""
    return tl.where(x > 0.0, x, alpha * expm1(x))


@triton.jit
def celu(x, alpha):
    """The value x where it is positive, else alpha (exp(x / alpha) - 1)."""
    return tl.where(x > 0.0, x, alpha * expm1(x / alpha))


@triton.jit
def selu(x):
    """The function elu with the constants of Klambauer et al. 2017."""
    return tl.where(x > 0.0, x, expm1(x) * _SELU_ALPHA) * _SELU_SCALE


@triton.jit
def selu_gradient(x):
    """The scale, times alpha exp(x) where x is not positive."""
    return tl.where(x <= 0.0, tl.exp(x) * _SELU_ALPHA, 1.0) * _SELU_SCALE


@triton.jit
def softplus(x, beta, threshold):
    """log(1 + exp(beta x)) / beta, without overflow; x itself where beta x is above the threshold."""
    inner = x * beta
    soft = (tl.where(inner > 0.0, inner, 0.0) + log1p(tl.exp(-tl.abs(inner)))) / beta
    return tl.where(inner > threshold, x, soft)


@triton.jit
def mish(x):
    """The product x tanh(log(1 + exp(x)))."""
    return x * _tanh_of_softplus(x)


@triton.jit
def mish_gradient(x):
    """With t = tanh(log(1 + exp(x))) and s = sigmoid(x): t + x s (1 - t^2)."""
    t = _tanh_of_softplus(x)
    return t + x * tl.sigmoid(x) * (1.0 - t * t)


@triton.jit
def _tanh_of_softplus(x):
    """With e = exp(-|x|): (1 + 2 e) / (1 + 2 e + 2 e^2) for positive x, else e (2 + e) / (2 + 2 e + e^2)."""
    e = tl.exp(-tl.abs(x))
    right = (1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e * e)
    left = e * (2.0 + e) / (2.0 + 2.0 * e + e * e)
    return tl.where(x > 0.0, right, left)


@triton.jit
def power(x, y):
    """The power x^y, by its logarithm in float64, which has digits to spare for large exponents.

    NaN for a finite negative x and a y that is no integer; at zeros and infinities as C's pow.
    """
    x = tl.cast(x, tl.float32)  # of two operands one may be a constant
    y = tl.cast(y, tl.float32)
    base = tl.abs(x)
    size = tl.exp(y.to(tl.float64) * tl.log(base.to(tl.float64))).to(tl.float32)
    size = tl.where((base == 1.0) & (y == y), 1.0, size)
    is_whole = tl.floor(y) == y
    is_odd = is_whole & (tl.floor(y * 0.5) * 2.0 != y)
    has_roots = (base == 0.0) | (base == float("inf"))
    signed = tl.where(is_odd, -size, tl.where(is_whole | has_roots, size, float("nan")))
    is_below = x.to(tl.int32, bitcast=True) < 0  # so is -0
    return tl.where((y == 0.0) | (x == 1.0), 1.0, tl.where(is_below, signed, size))


@triton.jit
def power_of_two(high, low):
    """The power 2^(high + low) to about one unit in the last place, for a sum between -126 and 127.

    The fraction's power is its Taylor polynomial of degree 7, whose rest is below 2^-27 on [-1/2, 1/2].
    """
    whole = round_to_even(high)
    x = ((high - whole) + low) * 0.6931471805599453
    power = x * (1.0 / 5040.0) + 1.0 / 720.0
    power = power * x + 1.0 / 120.0
    power = power * x + 1.0 / 24.0
    power = power * x + 1.0 / 6.0
    power = power * x + 0.5
    power = power * x + 1.0
    power = power * x + 1.0
    return power * ((whole.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def wave_angle(position, feature, high, low):
    """The angle position * 2^(-feature * (high + low)); high: a number of 12 bits. feature: int32 tile."""
    count = feature.to(tl.float32)
    return position * power_of_two(-count * high, -count * low)


@triton.jit
def uniform(seed, offset, index):
    """A float32 number in [0, 1) for each counter, a multiple of 2^-24.

    seed: int64 scalar. offset: non-negative 32-bit integer, one for each random node of a graph.
    index: int32 tile, the element's flat index. The mixing steps are Wellons' "lowbias32"; a second key
    enters between its rounds, so that no stream is another one in a different order.
    """
    low = seed.to(tl.uint32)
    high = (seed >> 32).to(tl.uint32)
    first_key = _mix(low ^ _mix(tl.cast(offset, tl.uint32) + 0x9E3779B9))
    second_key = _mix(high + first_key)
    x = tl.cast(index, tl.uint32) ^ first_key
    x = (x ^ (x >> 16)) * 0x7FEB352D + second_key
    x = (x ^ (x >> 15)) * 0x846CA68B
    x = x ^ (x >> 16)
    return (x >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def normal(seed, offset, index):
    """A float32 standard normal number for each counter, of two uniform ones (Box and Muller 1958)."""
    u = uniform(seed, offset, index)
    v = uniform(seed ^ 0x3C6EF372, offset, index)
    return tl.sqrt(-2.0 * tl.log(1.0 - u)) * tl.cos(v * _TWO_PI)


@triton.jit
def _mix(x):
    """Wellons' "lowbias32": a bijection of uint32 in which each input bit flips half of the output bits."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)
