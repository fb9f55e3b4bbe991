"""How the convolutional blueprints start, what of them trains, and which slots they fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esper.lang import fit, lower
from esper.lang.errors import DoesNotFit
from esper.urza.run.seed import CompiledSeed

IDENTITIES = [
    "convnext_block",
    "dilated_conv",
    "eca_block",
    "global_context",
    "group_norm_block",
    "mbconv_block",
    "mobilenet_block",
    "residual_dense",
    "resnet_preactivation",
    "separable_conv",
    "spatial_attention",
    "squeeze_excite",
    "wavenet_block",
]
"""Blueprints whose seeds start as the identity; those of the next list start as a ReLU."""
RECTIFIED_IDENTITIES = ["inception_block", "resnet_block", "resnet_bottleneck", "shuffle_block"]
OTHERS = ["conv_block", "dense_block", "resnet_downsample", "unet_down", "unet_up"]
ABSORBED = {"shuffle_block": ["batch_norm_2.bias"]}
"""The paper's block has a shift that the norm behind the next convolution takes out again."""


def seed_of(name: str, space: int = 2, **params: Any) -> CompiledSeed:
    """The blueprint for maps with `space` axes, with its first weights, in float64."""
    sizes = {"unet_up": ("R", "S"), "wavenet_block": ()}.get(name, ("S",))
    ir = lower(name, sizes=dict.fromkeys(sizes, (8,) * space), **params)
    return CompiledSeed(ir, generator=torch.Generator().manual_seed(0)).double()


def inputs_of(seed: CompiledSeed) -> list[Tensor]:
    """Three examples for each input, all other sizes 8; maps from below `unet_up` have 4."""
    generator = torch.Generator().manual_seed(1)
    shapes = [
        node.type.concrete_shape(
            {name: 3 if name == "N" else 4 if name.startswith("R") else 8 for name in seed.ir.symbols}
        )
        for node in seed.ir.inputs
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def outputs(seed: CompiledSeed) -> tuple[Tensor, ...]:
    found = seed(*inputs_of(seed))
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", [*IDENTITIES, *RECTIFIED_IDENTITIES])
def test_a_seed_starts_as_its_documentation_says(name: str, training: bool) -> None:
    seed = seed_of(name).train(training)
    (x,) = inputs_of(seed)
    assert torch.equal(seed(x), x.relu() if name in RECTIFIED_IDENTITIES else x)


def test_a_block_that_opens_a_stage_starts_as_its_projected_shortcut() -> None:
    seed = seed_of("resnet_downsample", channels=3)
    (x,) = inputs_of(seed)
    projection = nn.Conv2d(3, 6, 1, stride=2, bias=False)
    projection.weight.data = next(seed.parameters()).detach()
    shortcut = nn.Sequential(projection, nn.BatchNorm2d(6), nn.ReLU()).double()
    torch.testing.assert_close(seed(x), shortcut(x))


def test_the_first_channels_of_a_dense_block_are_its_input() -> None:
    seed = seed_of("dense_block", channels=3, growth=2)
    (x,) = inputs_of(seed)
    assert torch.equal(seed(x)[:, :3], x)


@pytest.mark.parametrize("name", [*IDENTITIES, *RECTIFIED_IDENTITIES, *OTHERS])
def test_no_weight_is_out_of_reach_of_training(name: str) -> None:
    """A branch that starts at zero opens in the first step; a bias right before a norm would never move."""
    seed = seed_of(name)
    before = {key: value.detach().clone() for key, value in seed.named_parameters()}
    optimizer = torch.optim.SGD(seed.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(((y - 1.0) ** 2).mean() for y in outputs(seed))
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
    still = [key for key, value in seed.named_parameters() if (value - before[key]).abs().max() < 1e-12]
    assert still == ABSORBED.get(name, [])


@pytest.mark.parametrize("name", ["convnext_block", "mbconv_block"])
def test_stochastic_depth_skips_the_branch_for_whole_examples_and_doubles_it_for_the_others(
    name: str,
) -> None:
    certain, drawn = seed_of(name, channels=4), seed_of(name, channels=4, drop_rate=0.5)
    shared = {key: torch.randn_like(value) for key, value in certain.named_parameters()}
    for seed in (certain, drawn):
        seed.load_state_dict(shared, strict=False)
    x = torch.randn(64, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    branch, found = certain(x) - x, drawn(x) - x
    skipped = (found == 0).flatten(1).all(1)
    assert 16 < skipped.sum() < 48
    torch.testing.assert_close(found[~skipped], 2 * branch[~skipped])
    torch.testing.assert_close(drawn.eval()(x), certain.eval()(x))


def test_a_causal_block_sees_itself_and_the_past_alone() -> None:
    seed = seed_of("wavenet_block", channels=3, kernel=3, dilation=2)
    give = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=give))
    x = torch.randn(1, 3, 9, generator=give, dtype=torch.float64, requires_grad=True)
    for position in range(9):
        (gradient,) = torch.autograd.grad(seed(x)[..., position].sum(), x)
        seen = [at for at in range(9) if gradient[..., at].any()]
        assert seen == [at for at in (position - 4, position - 2, position) if at >= 0]


@pytest.mark.parametrize("space", [(8, 8), (7, 5), (9,), (4, 5, 6)])
def test_a_step_up_the_u_returns_to_the_sizes_that_the_step_down_left(space: tuple[int, ...]) -> None:
    down = seed_of("unet_down", len(space), channels=2)
    up = seed_of("unet_up", len(space), channels=4, skip_channels=4, out=2)
    x = torch.randn(2, 2, *space, dtype=torch.float64)
    pooled, skip = down(x)
    assert pooled.shape == (2, 4, *(size // 2 for size in space)) and skip.shape == (2, 4, *space)
    assert up(pooled, skip).shape == x.shape


@pytest.mark.parametrize("name", ["conv_block", *IDENTITIES, *RECTIFIED_IDENTITIES])
def test_a_block_fits_slots_whose_host_hands_it_maps(name: str) -> None:
    space = (9,) if name == "wavenet_block" else (9, 8)
    assert fit(name, (5, 32, *space))[0] == {"channels": 32}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dense_block", r"it would return f32\[5, 128, 9, 8\]"),
        ("resnet_downsample", r"it would return f32\[5, 64, 5, 4\]"),
        ("unet_down", "1 inputs and 2 outputs"),
        ("unet_up", "2 inputs and 1 outputs"),
    ],
)
def test_a_block_that_changes_the_map_is_refused_by_a_slot(name: str, reason: str) -> None:
    with pytest.raises(DoesNotFit, match=reason):
        fit(name, (5, 32, 9, 8))
