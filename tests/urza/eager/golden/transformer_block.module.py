"""`transformer_block`, written by `esperc compile --emit torch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FIRST, _SECOND, _GOLDEN = 0x7FEB352D, 0x846CA68B, 0x9E3779B9
_STEPS = (16, 0xFFFF, _FIRST, 15, 0x1FFFF, _SECOND - 2**32, 8, 0xFFFFFF)
_MASK = 0xFFFFFFFF


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer: self-attention of several heads, then two linear layers for each position.

    Vaswani et al. 2017, "Attention Is All You Need" (arXiv:1706.03762), normalised first as in Xiong et
    al. 2020 (arXiv:2002.04745). The last projection of both branches starts at zero: the seed starts as the
    identity.

    x: float32 [N, T, 256]
    Returns float32 [N, T, 256]; 789,760 parameters.
    """

    random_seed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(256)
        self.multi_head_attention = nn.ParameterDict()
        self.multi_head_attention["weight_q"] = nn.Parameter(torch.empty(256, 256))
        self.multi_head_attention["bias_q"] = nn.Parameter(torch.empty(256))
        self.multi_head_attention["weight_k"] = nn.Parameter(torch.empty(256, 256))
        self.multi_head_attention["bias_k"] = nn.Parameter(torch.empty(256))
        self.multi_head_attention["weight_v"] = nn.Parameter(torch.empty(256, 256))
        self.multi_head_attention["bias_v"] = nn.Parameter(torch.empty(256))
        self.multi_head_attention["weight"] = nn.Parameter(torch.empty(256, 256))
        self.multi_head_attention["bias"] = nn.Parameter(torch.empty(256))
        self.layer_norm_2 = nn.LayerNorm(256)
        self.linear = nn.Linear(256, 1024)
        self.linear_2 = nn.Linear(1024, 256)
        self.register_buffer("random_seed", torch.randint(2**31, ()))
        for name in ("weight_q", "bias_q", "weight_k", "bias_k", "weight_v", "bias_v"):
            nn.init.uniform_(self.multi_head_attention[name], -0.0625, 0.0625)
        nn.init.zeros_(self.multi_head_attention["weight"])
        nn.init.zeros_(self.multi_head_attention["bias"])
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, x: Tensor) -> Tensor:
        seed = self.random_seed.clone()
        if self.training:
            self.random_seed.add_(1)
        h = self.layer_norm(x)
        q = F.linear(h, self.multi_head_attention["weight_q"], self.multi_head_attention["bias_q"])
        q = q.unflatten(-1, (4, -1)).transpose(1, 2)
        k = F.linear(h, self.multi_head_attention["weight_k"], self.multi_head_attention["bias_k"])
        k = k.unflatten(-1, (4, -1)).transpose(1, 2)
        v = F.linear(h, self.multi_head_attention["weight_v"], self.multi_head_attention["bias_v"])
        v = v.unflatten(-1, (4, -1)).transpose(1, 2)
        if self.training:
            h = dropped_attention(q, k, v, seed, causal=False, scale=0.0, dropout=0.1, offset=0)
        else:
            h = F.scaled_dot_product_attention(q, k, v)
        h = F.linear(
            h.transpose(1, 2).flatten(2),
            self.multi_head_attention["weight"],
            self.multi_head_attention["bias"],
        )
        if self.training:
            h = hashed_dropout(h, seed, p=0.1, offset=1)
        y = x + h
        h = self.layer_norm_2(y)
        h = self.linear(h)
        h = F.gelu(h)
        if self.training:
            h = hashed_dropout(h, seed, p=0.1, offset=2)
        h = self.linear_2(h)
        if self.training:
            h = hashed_dropout(h, seed, p=0.1, offset=3)
        return y + h


def dropped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seed: Tensor,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """`dropout(softmax(q k' * scale)) v` [B, H, T, E], for k of H heads; scale 0 is `1 / sqrt(D)`.

    Examples and heads are one axis on the way, which spares torch a dozen views.
    """
    batch, heads, queries, features = q.shape
    scores = torch.bmm(wide(q).flatten(0, 1), wide(k).flatten(0, 1).mT)
    scores = scores * (scale or 1.0 / math.sqrt(features))
    if causal:
        past = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~past, -math.inf)
    weights = hashed_dropout(torch.softmax(scores, -1), seed, p=dropout, offset=offset)
    found = torch.bmm(weights, wide(v).flatten(0, 1)).view(batch, heads, queries, v.shape[3])
    return found if found.dtype is q.dtype else found.to(q.dtype)


def hashed_dropout(x: torch.Tensor, seed: int | torch.Tensor, *, p: float, offset: int) -> torch.Tensor:
    """`x / (1 - p)` where the uniform number of an element's row-major index is at least `p`, else zero."""
    dropped = _numerators(seed, offset, x.shape, x.device) < p * 2.0**24
    return (x * (1.0 / (1.0 - p))).masked_fill(dropped, 0.0)


def _numerators(
    seed: int | torch.Tensor, offset: int, shape: Sequence[int], device: torch.device | str | None
) -> torch.Tensor:
    """`uniform` times 2^24, in int32; a seed that is an integer is mixed without torch."""
    keys: tuple[torch.Tensor, torch.Tensor] | tuple[int, int]
    numbers: tuple[torch.Tensor, ...] | tuple[int, ...]
    if isinstance(seed, torch.Tensor):
        device = seed.device if device is None else device
        seed = seed.to(device)
        keys, numbers = _key_tensors(seed, _mix_integer((offset + _GOLDEN) & _MASK)), _STEPS
    else:
        keys, numbers = _keys(seed, offset), _steps()
    count = math.prod(shape)
    x = torch.arange(count, dtype=torch.int32, device=device)
    x ^= keys[0]
    return _mixed(x, keys[1], numbers).view(tuple(shape))


def _key_tensors(seed: torch.Tensor, mixed_offset: int | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_keys`, of an int64 tensor of seeds."""
    first = _mix((seed & _MASK) ^ mixed_offset)
    second = _mix((((seed >> 32) & _MASK) + first) & _MASK)
    return first.to(torch.int32), second.to(torch.int32)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """lowbias32 on int64 tensors of values below 2^32."""
    x = ((x ^ (x >> 16)) * _FIRST) & _MASK
    x = ((x ^ (x >> 15)) * _SECOND) & _MASK
    return x ^ (x >> 16)


def _keys(seed: int, offset: int) -> tuple[int, int]:
    """The two keys of a stream, as int32."""
    first = _mix_integer((seed & _MASK) ^ _mix_integer((offset + _GOLDEN) & _MASK))
    return _signed(first), _signed(_mix_integer((((seed >> 32) & _MASK) + first) & _MASK))


def _mix_integer(x: int) -> int:
    """lowbias32 on a Python integer."""
    x = ((x ^ (x >> 16)) * _FIRST) & _MASK
    x = ((x ^ (x >> 15)) * _SECOND) & _MASK
    return x ^ (x >> 16)


def _signed(x: int) -> int:
    """The int32 with the bits of `x`, below 2^32."""
    return x - 2**32 if x >= 2**31 else x


@cache
def _steps() -> tuple[torch.Tensor, ...]:
    """`_STEPS` as scalar tensors, which an operator reads at half the cost of a number; on any device."""
    return tuple(torch.tensor(number, dtype=torch.int32, device="cpu") for number in _STEPS)


def _mixed(
    x: torch.Tensor, second: torch.Tensor | int, numbers: tuple[torch.Tensor, ...] | tuple[int, ...]
) -> torch.Tensor:
    """The upper 24 bits of `x`, int32, mixed with the second key; `x` is overwritten."""
    sixteen, low16, first_factor, fifteen, low17, second_factor, eight, low24 = numbers
    x ^= (x >> sixteen).bitwise_and_(low16)
    x *= first_factor
    x += second
    x ^= (x >> fifteen).bitwise_and_(low17)
    x *= second_factor
    x ^= (x >> sixteen).bitwise_and_(low16)
    return (x >> eight).bitwise_and_(low24)


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32, or float64 if it is."""
    if x.dtype is torch.float32:
        return x  # what most calls come to, without two of torch's
    return x.to(torch.promote_types(x.dtype, torch.float32))
