"""Noise and dropout of parts: distributions, what is dropped together, refusals, and the language.

Statistics are of one fixed seed; bounds are those of a test at level 1e-5.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from esper.ir import Builder, DType, TensorType, parse_type
from esper.ir.build import complete_attrs, infer_types
from esper.ir.errors import TypeRuleViolated
from esper.ir.operator import OPERATORS, AttrValue
from esper.lang import lower
from esper.ops.reference.random import drop_path, feature_dropout, gaussian_noise, normal, uniform
from esper.passes import run_passes
from esper.testing import random_values
from esper.testing.laws import run

COUNT = 1 << 18
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio
Z = 4.42  # two-sided, level 1e-5
KOLMOGOROV = 2.47  # of sqrt(n) times the greatest distance, level 1e-5


def test_normal_numbers_have_the_moments_and_the_distribution_of_the_normal() -> None:
    z = normal(11, 3, (COUNT,)).double()
    assert abs(z.mean().item()) < Z / math.sqrt(COUNT)
    assert abs(z.var().item() - 1.0) < Z * math.sqrt(2.0 / COUNT)
    cdf = 0.5 * (1.0 + torch.erf(z.sort().values / math.sqrt(2.0)))
    steps = torch.arange(COUNT + 1, dtype=torch.float64) / COUNT
    distance = torch.maximum((cdf - steps[:-1]).abs().max(), (cdf - steps[1:]).abs().max())
    assert distance.item() * math.sqrt(COUNT) < KOLMOGOROV


def lowbias32(x: int) -> int:
    """Chris Wellons's 32-bit mixer, in Python's own integers."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 7, 2**40 + 12345, 2**63 - 1])
@pytest.mark.parametrize("offset", [0, 3, 2**20])
def test_uniform_numbers_are_those_of_the_published_mixer(seed: int, offset: int) -> None:
    low, high = seed % 2**32, seed >> 32
    first = lowbias32(low ^ lowbias32((offset + GOLDEN) % 2**32))
    second = lowbias32((high + first) % 2**32)
    expected = []
    for index in range(64):
        x = index ^ first
        x = ((x ^ (x >> 16)) * 0x7FEB352D + second) % 2**32
        x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
        expected.append(((x ^ (x >> 16)) >> 8) / 2**24)
    assert uniform(torch.tensor(seed), offset, (64,)).tolist() == expected


@pytest.mark.parametrize("lag", [1, 2, 1024])
def test_normal_numbers_of_neighbours_seeds_and_offsets_are_uncorrelated(lag: int) -> None:
    z = normal(11, 3, (COUNT,)).double()
    others = [z.roll(lag), normal(11 + lag, 3, (COUNT,)).double(), normal(11, 3 + lag, (COUNT,)).double()]
    for other in others:
        assert abs((z * other).mean().item()) < Z / math.sqrt(COUNT)


def test_noise_is_scaled_and_added_and_drawn_again_from_the_same_seed() -> None:
    x, seed = torch.full((64,), 5.0), torch.tensor(2)
    noise = gaussian_noise(x, seed, std=0.5, offset=1)
    torch.testing.assert_close(noise, 5.0 + 0.5 * normal(2, 1, (64,)))
    assert torch.equal(noise, gaussian_noise(x, seed, std=0.5, offset=1))
    assert torch.equal(gaussian_noise(x, seed, std=0.0, offset=1), x)


def test_channels_are_dropped_whole() -> None:
    y = feature_dropout(torch.ones(64, 32, 3, 2), torch.tensor(1), p=0.25, offset=0)
    per_channel = y.flatten(2)
    assert torch.equal(per_channel, per_channel[..., :1].expand_as(per_channel))
    kept = (per_channel[..., 0] != 0).double()
    torch.testing.assert_close(per_channel[..., 0].double(), kept / 0.75)
    assert abs(kept.mean().item() - 0.75) < Z * math.sqrt(0.25 * 0.75 / kept.numel())


def test_a_path_is_dropped_for_a_whole_sample() -> None:
    y = drop_path(torch.ones(4096, 3, 2), torch.tensor(1), p=0.5, offset=0).flatten(1)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert abs((y[:, 0] != 0).double().mean().item() - 0.5) < Z * 0.5 / 64


@pytest.mark.parametrize("op", ["dropout", "feature_dropout", "drop_path", "gaussian_noise"])
@pytest.mark.parametrize("passes", ["inference,dce", "expand,inference,canonicalize,dce"])
def test_inference_draws_nothing(op: str, passes: str) -> None:
    build = Builder("noisy")
    x = build.input("x", TensorType(DType.F32, (4, 3, 2)))
    ir = run_passes(build.finish({"y": build.op(op, x, build.seed(), offset=0)}), passes)
    assert not ir.of("seed")
    values = random_values(ir)
    assert torch.equal(run(ir, values)["y"], values.inputs["x"])


@pytest.mark.parametrize(
    ("operator", "type", "attrs", "message"),
    [
        ("feature_dropout", "f32[N]", {"offset": 0}, "`x` is f32[N], expected 2 axes or more"),
        ("drop_path", "f32[]", {"offset": 0}, "`x` is f32[], expected 1 axis or more"),
        ("drop_path", "f32[N]", {"offset": 0, "p": 1.0}, "`p` is 1.0, expected a probability below 1"),
        ("gaussian_noise", "f32[N]", {"offset": 0, "std": -1.0}, "`std` is -1.0, expected 0 or more"),
        ("gaussian_noise", "f32[N]", {"offset": -1}, "`offset` is -1, expected 0 to"),
        ("gaussian_noise", "i64[N]", {"offset": 0}, "`x` is i64[N], expected a floating dtype"),
    ],
)
def test_a_wrong_use_is_refused(operator: str, type: str, attrs: dict[str, AttrValue], message: str) -> None:
    entry = OPERATORS[operator]
    with pytest.raises(TypeRuleViolated) as error:
        infer_types(
            entry, [parse_type(type), parse_type("i64[]")], complete_attrs(entry, attrs, node=operator)
        )
    assert message in str(error.value)


def test_numbers_that_are_counted_are_no_booleans() -> None:
    with pytest.raises(TypeRuleViolated, match="`dtype` is bool, expected one of numbers"):
        Builder("count").op("arange", size=3, dtype=DType.BOOL)


def test_blueprints_may_use_them_and_each_use_draws_its_own_numbers(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text(
        "blueprint b() { input x: f32[N, 8, 4]\n"
        "h = gaussian_noise(x, std = 0.1) |> feature_dropout(0.2) |> gaussian_noise()\n"
        "output x + drop_path(h, p = 0.1) + arange(4, dtype = f32) }",
        encoding="utf-8",
    )
    ir = lower(path)
    offsets = [node.attrs["offset"] for node in ir.nodes if "offset" in node.attrs]
    assert offsets == [0, 1, 2, 3]
