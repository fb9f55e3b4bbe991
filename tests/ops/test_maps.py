"""Padding, interpolation and rearrangements of maps are torch's in any number of axes, gradients too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esper.ir.errors import TypeRuleViolated
from esper.lang import BlueprintRejected, check, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph

Function = Callable[[torch.Tensor], torch.Tensor]

CASES: dict[str, tuple[str, Function, tuple[int, ...]]] = {
    "constant": (
        "pad(x, pad=[1, 2, 0, 3], value=1.5)",
        lambda x: F.pad(x, (1, 2, 0, 3), value=1.5),
        (2, 4, 5, 6),
    ),
    "reflect": (
        "pad(x, pad=[2, 1, 1, 3], mode=reflect)",
        lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"),
        (2, 4, 5, 6),
    ),
    "replicate": (
        "pad(x, pad=[4, 1], mode=replicate)",
        lambda x: F.pad(x, (4, 1), mode="replicate"),
        (2, 4, 5),
    ),
    "circular": (
        "pad(x, pad=[3, 5, 1, 0], mode=circular)",
        lambda x: F.pad(x, (3, 5, 1, 0), mode="circular"),
        (2, 4, 5, 6),
    ),
    "nearest": ("interpolate(x, scale=3)", lambda x: F.interpolate(x, scale_factor=3.0), (2, 4, 5, 6)),
    "bilinear": (
        "interpolate(x, scale=2, mode=linear)",
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        (2, 4, 5, 6),
    ),
    "linear to a size": (
        "interpolate(x, size=[7], mode=linear)",
        lambda x: F.interpolate(x, (7,), mode="linear"),
        (2, 4, 5),
    ),
    "trilinear": (
        "interpolate(x, size=[3, 5, 2], mode=linear)",
        lambda x: F.interpolate(x, (3, 5, 2), mode="trilinear"),
        (2, 4, 3, 2, 4),
    ),
    "pixel_shuffle": ("pixel_shuffle(x, factor=2)", lambda x: F.pixel_shuffle(x, 2), (2, 8, 3, 4)),
    "pixel_unshuffle": ("pixel_unshuffle(x, factor=2)", lambda x: F.pixel_unshuffle(x, 2), (2, 3, 4, 6)),
    "channel_shuffle": ("channel_shuffle(x, groups=3)", lambda x: F.channel_shuffle(x, 3), (2, 6, 4, 5)),
    "instance_norm": (
        "instance_norm(x, eps=0.001, affine=false)",
        lambda x: F.instance_norm(x, eps=1e-3),
        (2, 4, 5, 6),
    ),
}


def source(call: str, shape: tuple[int, ...]) -> str:
    return f"blueprint maps() {{ input x: f64[{', '.join(map(str, shape))}] output {call} }}"


@pytest.mark.parametrize("case", CASES)
def test_it_is_torchs_function_with_its_gradient(case: str, tmp_path: Path) -> None:
    call, function, shape = CASES[case]
    path = tmp_path / "maps.esp"
    path.write_text(source(call, shape), encoding="utf-8")
    assert [found.code for found in check(path)] == []
    x = torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    expected = function(x)
    g = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    joint = joint_graph(lower(path))
    found = evaluate(joint, {"x": x.detach(), "grad.result": g}, {})
    torch.testing.assert_close(found["result"], expected.detach(), rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(expected, x, g)
    torch.testing.assert_close(found["grad.x"], gradient, rtol=1e-9, atol=1e-9)


def test_pixel_unshuffle_undoes_pixel_shuffle_in_one_to_three_axes() -> None:
    from esper.ops.reference.interpolation import pixel_shuffle, pixel_unshuffle

    for axes in (1, 2, 3):
        x = torch.arange(2.0 * 8 * 3**axes).reshape(2, 8, *[3] * axes)
        assert torch.equal(pixel_unshuffle(pixel_shuffle(x, factor=2), factor=2), x)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("pad(x, pad=[1])", "`pad` is \\[1\\], expected two numbers for each of up to 4 axes"),
        ("pad(x, pad=[1, 1, 1, 1, 1, 1, 1, 1, 1, 1])", "up to 4 axes"),
        (
            "pad(x, pad=[5, 0], mode=reflect)",
            "`pad` has 5 for axis 3 .* `reflect` adds at most its size less one",
        ),
        ("pad(x, pad=[6, 0], mode=circular)", "`pad` has 6 for axis 3 .* `circular` adds at most its size"),
        (
            "pad(x, pad=[1, 1], mode=mirror)",
            "is `mirror`, expected one of constant, reflect, replicate, circular",
        ),
        ("interpolate(x)", "give either `scale` or `size`"),
        ("interpolate(x, scale=2, size=[3, 3])", "give either `scale` or `size`"),
        ("interpolate(x, size=[3])", "`size` is \\[3\\], expected 2"),
        ("interpolate(x, scale=-1)", "`scale` is -1, expected at least 1"),
        (
            "instance_norm(reshape(x, [2, 120, 1]))",
            "one value for each channel of an example has no variance",
        ),
        ("pixel_shuffle(x, factor=3)", "6 channels are no multiple of 9"),
        ("pixel_unshuffle(x, factor=2)", "5 along axis 3 is no multiple of factor = 2"),
        ("channel_shuffle(x, groups=4)", "its channels are not known to divide by groups = 4"),
    ],
)
def test_what_cannot_be_is_refused_with_the_values(call: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "maps.esp"
    path.write_text(source(call, (2, 6, 4, 5)), encoding="utf-8")
    with pytest.raises((BlueprintRejected, TypeRuleViolated), match=reason):
        lower(path)
