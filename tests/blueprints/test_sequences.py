"""The blueprints for sequences and features against formulas and modules of torch that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esper.ir.graph import BlueprintIR
from esper.lang import fit, lower, signature
from esper.lang.errors import DoesNotFit
from esper.passes.manager import run_passes
from esper.urza.run.seed import CompiledSeed
from tests.blueprints.agreement import (
    close,
    give_same_weights,
    outputs,
    random_inputs,
    require_agreement,
    require_joint_agreement,
)

SIZES = {"N": 3, "T": 5, "U": 4, "S.0": 2, "S.1": 3}
"""Examples, positions, positions of the context, and the axes of a `...S`."""


class Residual(nn.Module):
    """The input plus `scale` times what the layers make of it."""

    def __init__(self, *layers: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.layers, self.scale = nn.Sequential(*layers), scale

    def forward(self, x: Tensor) -> Any:
        return x + self.scale * self.layers(x)


class Swapped(nn.Module):
    """Layers on the positions of [N, T, features]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Any:
        return self.layers(x.mT).mT


class Gate(nn.Module):
    """One half of the features times a function of the other, which is the last."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.tensor_split(2, -1)
        return value * self.function(gate)


def turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions of [N, heads, T, D]: pairs of features, as complex numbers, times one of norm one."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])
    rates = torch.tensor([base ** (-i / half) for i in range(half)], dtype=torch.float64)
    angles = torch.outer(torch.arange(x.shape[2], dtype=torch.float64), rates)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], -1)


class Heads(nn.Module):
    """Attention written out: a softmax for each query over the keys that it sees."""

    def __init__(
        self,
        features: int,
        heads: int,
        *,
        kv_heads: int = 0,
        context: int = 0,
        causal: bool = False,
        bias: bool = True,
        base: float = 0.0,
    ) -> None:
        super().__init__()
        self.head, self.causal, self.base = features // heads, causal, base
        self.share = heads // (kv_heads or heads)
        narrow = features // self.share
        self.q = nn.Linear(features, features, bias)
        self.k, self.v = (nn.Linear(context or features, narrow, bias) for _ in range(2))
        self.out = nn.Linear(features, features, bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Any:
        context = x if context is None else context
        q, k, v = (
            layer(given).unflatten(-1, (-1, self.head)).movedim(2, 1)
            for layer, given in ((self.q, x), (self.k, context), (self.v, context))
        )
        if self.base:
            q, k = turned(q, self.base), turned(k, self.base)
        k, v = k.repeat_interleave(self.share, 1), v.repeat_interleave(self.share, 1)
        scores = torch.einsum("nhtd,nhsd->nhts", q, k) / self.head**0.5
        if self.causal:
            scores = scores + torch.full(scores.shape[2:], -torch.inf).triu(1)
        attended = torch.einsum("nhts,nhsd->nthd", scores.softmax(-1), v)
        return self.out(attended.flatten(2))


class EncoderLayer(nn.Module):
    """torch's own transformer layer, whose packed weights are made of the layers that a blueprint makes."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, norm_first: bool, causal: bool) -> None:
        super().__init__()
        activation = "gelu" if norm_first else "relu"
        layer = nn.TransformerEncoderLayer(
            d_model, n_heads, d_ff, 0.0, activation, batch_first=True, norm_first=norm_first
        )
        self.hidden, self.causal = [layer.double()], causal
        norms = [nn.LayerNorm(d_model), nn.LayerNorm(d_model)]
        self.attention = [nn.Linear(d_model, d_model) for _ in range(4)]
        attention = nn.ModuleList(self.attention)
        forward = nn.ModuleList([nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)])
        places = (
            [norms[0], attention, norms[1], forward]
            if norm_first
            else [attention, norms[0], forward, norms[1]]
        )
        self.places = nn.ModuleList(places)
        self.named = {"norm1": norms[0], "norm2": norms[1], "linear1": forward[0], "linear2": forward[1]}

    def forward(self, x: Tensor) -> Any:
        q, k, v, out = self.attention
        weights: dict[str, Tensor] = {
            f"{name}.{key}": w for name, m in self.named.items() for key, w in m.named_parameters()
        }
        weights |= {f"self_attn.out_proj.{key}": w for key, w in out.named_parameters()}
        weights["self_attn.in_proj_weight"] = torch.cat([q.weight, k.weight, v.weight])
        weights["self_attn.in_proj_bias"] = torch.cat([q.bias, k.bias, v.bias])
        mask = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1) if self.causal else None
        return torch.func.functional_call(self.hidden[0], weights, (x,), {"src_mask": mask})


class SwiGLU(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.up, self.gate = (nn.Linear(features, hidden, False) for _ in range(2))
        self.down = nn.Linear(hidden, features, False)

    def forward(self, x: Tensor) -> Any:
        gate = self.gate(x)
        return self.down(self.up(x) * gate / (1 + torch.exp(-gate)))


def transformer_llama(
    d_model: int, n_heads: int, n_kv_heads: int, d_ff: int, base: float, causal: bool
) -> nn.Module:
    heads = Heads(d_model, n_heads, kv_heads=n_kv_heads, causal=causal, bias=False, base=base)
    norms = [nn.RMSNorm(d_model, eps=1e-5) for _ in range(2)]
    return nn.Sequential(Residual(norms[0], heads), Residual(norms[1], SwiGLU(d_model, d_ff)))


class CrossAttention(nn.Module):
    def __init__(self, d_model: int, d_context: int, n_heads: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(d_model), Heads(d_model, n_heads, context=d_context)

    def forward(self, x: Tensor, context: Tensor) -> Any:
        return x + self.heads(self.norm(x), context)


def glu_block(features: int, hidden: int, act: str, bias: bool) -> nn.Module:
    gates: dict[str, Callable[[Tensor], Tensor]] = {
        "glu": torch.sigmoid,
        "geglu": F.gelu,
        "swiglu": F.silu,
        "reglu": F.relu,
    }
    last = nn.Linear(hidden, features, bias)
    return Residual(nn.LayerNorm(features), nn.Linear(features, 2 * hidden, bias), Gate(gates[act]), last)


class SpatialGate(nn.Module):
    """The paper's unit; its bias of one is added here."""

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(hidden), nn.Conv1d(length, length, 1)
        self.mix.weight = nn.Parameter(self.mix.weight[:, :, 0])

    def forward(self, x: Tensor) -> Any:
        value, gate = x.tensor_split(2, -1)
        return value * (F.conv1d(self.norm(gate), self.mix.weight[:, :, None], self.mix.bias) + 1)


def gmlp_block(length: int, features: int, hidden: int) -> nn.Module:
    entry = (nn.LayerNorm(features), nn.Linear(features, 2 * hidden), nn.GELU())
    return Residual(*entry, SpatialGate(length, hidden), nn.Linear(hidden, features))


def mixer_block(length: int, features: int, hidden_positions: int, hidden_features: int) -> nn.Module:
    def mlp(size: int, hidden: int) -> tuple[nn.Module, ...]:
        return nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size)

    positions = Residual(nn.LayerNorm(features), Swapped(*mlp(length, hidden_positions)))
    return nn.Sequential(positions, Residual(nn.LayerNorm(features), *mlp(features, hidden_features)))


def low_rank_adapter(features: int, rank: int, alpha: float) -> nn.Module:
    down, up = nn.Linear(features, rank, False), nn.Linear(rank, features, False)
    return Residual(down, up, scale=alpha / rank)


def bottleneck_adapter(features: int, hidden: int) -> nn.Module:
    return Residual(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))


class FiLM(nn.Module):
    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(features, channels), nn.Linear(features, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Any:
        scaled = torch.einsum("nc...,nc->nc...", x, 1 + self.scale(condition))
        return (scaled.movedim((0, 1), (-2, -1)) + self.shift(condition)).movedim((-2, -1), (0, 1))


class Highway(nn.Module):
    def __init__(self, features: int, carry: float) -> None:
        super().__init__()
        self.gate, self.function, self.carry = (
            nn.Linear(features, features),
            nn.Linear(features, features),
            carry,
        )

    def forward(self, x: Tensor) -> Tensor:
        share = 1 / (1 + torch.exp(self.carry - self.gate(x)))
        return share * torch.relu(self.function(x)) + (1 - share) * x


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU | nn.LSTM], features: int, hidden: int, both_ways: bool) -> None:
        super().__init__()
        self.loop = kind(features, hidden, batch_first=True, bidirectional=both_ways)
        self.last = nn.Linear(hidden * (2 if both_ways else 1), features)

    def forward(self, x: Tensor) -> Any:
        return x + self.last(self.loop(x)[0])


def encoder(norm_first: bool) -> Callable[..., nn.Module]:
    return lambda causal=False, **sizes: EncoderLayer(**sizes, norm_first=norm_first, causal=causal)


def attention(features: int, heads: int, causal: bool) -> nn.Module:
    return Residual(nn.LayerNorm(features), Heads(features, heads, causal=causal))


def attention_layer(d_model: int, n_heads: int, causal: bool) -> nn.Module:
    return Residual(Heads(d_model, n_heads, causal=causal))


def grouped(d_model: int, n_heads: int, n_kv_heads: int, causal: bool) -> nn.Module:
    heads = Heads(d_model, n_heads, kv_heads=n_kv_heads, causal=causal)
    return Residual(nn.LayerNorm(d_model), heads)


def mlp_block(features: int, expand: int) -> nn.Module:
    hidden = features * expand
    first, last = nn.Linear(features, hidden), nn.Linear(hidden, features)
    return Residual(nn.LayerNorm(features), first, nn.GELU(), last)


def norm(features: int) -> nn.Module:
    return Residual(nn.RMSNorm(features, eps=1e-5), nn.Linear(features, features))


def recurrent(kind: type[nn.GRU | nn.LSTM]) -> Callable[..., nn.Module]:
    return lambda **params: Recurrent(kind, **params)


LAYER = {"d_model": 8, "n_heads": 2, "d_ff": 12}
CASES: list[tuple[str, Callable[..., nn.Module], dict[str, Any]]] = [
    ("transformer_block", encoder(norm_first=True), LAYER),
    ("transformer_block", encoder(norm_first=True), {**LAYER, "n_heads": 4, "causal": True}),
    ("transformer_post_norm", encoder(norm_first=False), LAYER),
    ("transformer_post_norm", encoder(norm_first=False), {**LAYER, "causal": True}),
    ("transformer_llama", transformer_llama, {**LAYER, "n_kv_heads": 2, "base": 10000.0, "causal": True}),
    ("transformer_llama", transformer_llama, {**LAYER, "n_kv_heads": 1, "base": 50000.0, "causal": False}),
    ("attention", attention, {"features": 8, "heads": 2, "causal": False}),
    ("attention", attention, {"features": 8, "heads": 4, "causal": True}),
    ("attention_layer", attention_layer, {"d_model": 8, "n_heads": 2, "causal": False}),
    ("attention_layer", attention_layer, {"d_model": 8, "n_heads": 4, "causal": True}),
    ("grouped_query_attention", grouped, {"d_model": 16, "n_heads": 8, "n_kv_heads": 2, "causal": True}),
    ("grouped_query_attention", grouped, {"d_model": 16, "n_heads": 8, "n_kv_heads": 1, "causal": False}),
    ("cross_attention", CrossAttention, {"d_model": 8, "d_context": 6, "n_heads": 2}),
    *(
        ("glu_block", glu_block, {"features": 6, "hidden": 5, "act": act, "bias": act == "glu"})
        for act in ("glu", "geglu", "swiglu", "reglu")
    ),
    ("gmlp_block", gmlp_block, {"length": 5, "features": 6, "hidden": 4}),
    (
        "mixer_block",
        mixer_block,
        {"length": 5, "features": 6, "hidden_positions": 3, "hidden_features": 4},
    ),
    ("low_rank_adapter", low_rank_adapter, {"features": 6, "rank": 2, "alpha": 5.0}),
    ("bottleneck_adapter", bottleneck_adapter, {"features": 6, "hidden": 8}),
    ("mlp_block", mlp_block, {"features": 6, "expand": 2}),
    ("norm", norm, {"features": 6}),
    ("film", FiLM, {"channels": 4, "features": 3}),
    ("highway", Highway, {"features": 6, "carry": 1.5}),
    *(
        (name, recurrent(kind), {"features": 4, "hidden": 3, "both_ways": both_ways})
        for name, kind in (("gru_layer", nn.GRU), ("lstm_layer", nn.LSTM))
        for both_ways in (False, True)
    ),
]
"""A blueprint, its oracle, and the parameters of both; the others have their defaults."""

EACH = pytest.mark.parametrize(
    ("name", "oracle", "params"),
    [pytest.param(*case, id=f"{case[0]}-{index}") for index, case in enumerate(CASES)],
)
DROPPED = {"transformer_block": 4, "transformer_post_norm": 4, "attention_layer": 2, "cross_attention": 2}
"""How many times a blueprint drops elements."""
OF_ANY_RANK = {"bottleneck_adapter", "film", "glu_block", "highway", "low_rank_adapter", "mlp_block", "norm"}


def seed_of(name: str, axes: int = 2, **params: Any) -> CompiledSeed:
    """The blueprint's graph in float64, with `axes` axes for a `...S`, and without dropout unless given."""
    sizes = {"S": (2, 3)[:axes]} if name in OF_ANY_RANK else {}
    given = {"dropout": 0.0} if name in DROPPED else {}
    ir = BlueprintIR.from_text(str(lower(name, sizes=sizes, **{**given, **params})).replace("f32", "f64"))
    return CompiledSeed(ir, generator=torch.Generator().manual_seed(0))


def inputs_of(seed: CompiledSeed) -> list[Tensor]:
    return random_inputs([node.type.concrete_shape(SIZES) for node in seed.ir.inputs])


@EACH
def test_values_and_gradients_are_those_of_the_oracle(
    name: str, oracle: Callable[..., nn.Module], params: Mapping[str, Any]
) -> None:
    for axes in (0, 1, 2) if name in OF_ANY_RANK else (2,):
        seed, module = seed_of(name, axes, **params), oracle(**params).double()
        give_same_weights(seed, module)
        require_agreement(seed, module, inputs_of(seed))


@EACH
def test_the_joint_graphs_gradients_are_those_of_the_oracle(
    name: str, oracle: Callable[..., nn.Module], params: Mapping[str, Any]
) -> None:
    seed, module = seed_of(name, **params), oracle(**params).double()
    give_same_weights(seed, module)
    require_joint_agreement(seed, module, inputs_of(seed))


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_acts_where_the_paper_has_it_and_in_training_alone(name: str) -> None:
    ir = run_passes(lower(name, dropout=0.25), "expand")
    drops = [node.attrs for node in ir.nodes if node.attrs.get("p", node.attrs.get("dropout")) == 0.25]
    assert len(drops) == DROPPED[name] == len({attrs["offset"] for attrs in drops})
    seed = seed_of(name, dropout=0.25, d_model=8)
    oracle = seed_of(name, d_model=8)
    give_same_weights(seed, oracle)
    inputs = inputs_of(seed)
    (first,), (second,), (expected,) = (outputs(module, inputs) for module in (seed, seed, oracle))
    assert not torch.equal(first, second) and not torch.allclose(first, expected)
    close(outputs(seed.eval(), inputs), (expected,))


@pytest.mark.parametrize(
    "name", ["transformer_block", "transformer_post_norm", "transformer_llama", "attention_layer"]
)
def test_a_causal_block_sees_itself_and_the_past_alone(name: str) -> None:
    seed = seed_of(name, d_model=8, causal=True)
    give_same_weights(seed, seed)
    (x,) = inputs_of(seed)
    for position in range(5):
        (gradient,) = torch.autograd.grad(seed(x)[:, position].square().sum(), x)
        assert [bool(gradient[:, at].any()) for at in range(5)] == [at <= position for at in range(5)]


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_a_block_of_one_input_fits_slots_whose_host_hands_it_features(name: str) -> None:
    if len(lower(name).inputs) == 2:
        with pytest.raises(DoesNotFit, match="2 inputs"):
            fit(name, (3, 5, 32))
        return
    found = fit(name, (3, 5, 32))[0]
    dims = [info.name for info in signature(name).parameters if info.kind == "dim"]
    assert found == ({"length": 5, "features": 32} if "length" in dims else {dims[0]: 32})


@pytest.mark.parametrize("start", [1.0, 3.0])
def test_a_highway_starts_as_the_share_of_its_input_that_it_says(start: float) -> None:
    seed = seed_of("highway", features=6, carry=start)
    (x,) = inputs_of(seed)
    weight, bias = [*seed.parameters()][2:]
    share = torch.sigmoid(torch.tensor(-start, dtype=torch.float64))
    close(seed(x), (1 - share) * x + share * F.linear(x, weight, bias).relu())


def test_the_post_norm_layer_starts_as_a_normalisation() -> None:
    seed = seed_of("transformer_post_norm", d_model=8)
    (x,) = inputs_of(seed)
    torch.testing.assert_close(seed(x), F.layer_norm(x, (8,)), rtol=1e-4, atol=1e-4)


OF_HEADS = ("grouped_query_attention", *DROPPED)
NEVER_MOVES = {"attention": "linear_2.bias", **dict.fromkeys(OF_HEADS, "multi_head_attention.bias_k")}
"""A shift of all keys shifts all scores of a query alike, which a softmax takes out again."""


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_no_weight_is_out_of_reach_of_training(name: str) -> None:
    seed = seed_of(name)
    before = {key: value.detach().clone() for key, value in seed.named_parameters()}
    optimizer = torch.optim.SGD(seed.parameters(), lr=0.1)
    inputs = inputs_of(seed)
    for _ in range(4):
        optimizer.zero_grad()
        loss = sum(((y - 1.0) ** 2 + y).mean() for y in outputs(seed, inputs))
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
    still = [key for key, value in seed.named_parameters() if (value - before[key]).abs().max() < 1e-12]
    assert still == ([NEVER_MOVES[name]] if name in NEVER_MOVES else [])
