"""Convolutions and transposed convolutions are torch's in one to three axes, gradients too."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esper.ir import Builder, DType, TensorType
from esper.ir.errors import TypeRuleViolated
from esper.lang import BlueprintRejected, check, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph, run_passes

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
CONVOLUTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def require_torchs(path: Path, call: str, expected: torch.Tensor, leaves: dict[str, torch.Tensor]) -> None:
    """`call` on x, at the leaves' weights, has `expected` for its result and torch's gradients.

    leaves: `x`, then the weights in the order in which elaboration makes them.
    """
    x, weights = leaves["x"], list(leaves.values())[1:]
    sizes = ", ".join("NCHWD"[axis] if axis != 1 else str(x.shape[1]) for axis in range(x.dim()))
    path.write_text(f"blueprint maps() {{ input x: f64[{sizes}] output {call} }}", encoding="utf-8")
    assert [found.code for found in check(path)] == []
    joint = joint_graph(lower(path))
    names = [node.name for node in joint.params]
    g = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    found = evaluate(
        joint,
        {"x": x.detach(), "grad.result": g},
        {name: weight.detach() for name, weight in zip(names, weights, strict=True)},
    )
    torch.testing.assert_close(found["result"], expected.detach(), rtol=1e-9, atol=1e-9)
    gradients = torch.autograd.grad(expected, [x, *weights], g)
    for name, gradient in zip(("x", *names), gradients, strict=True):
        torch.testing.assert_close(found[f"grad.{name}"], gradient, rtol=1e-9, atol=1e-9)


GEOMETRIES = [
    # kernel, stride, padding, output_padding, dilation, groups
    (3, 1, 0, 0, 1, 1),
    (3, 2, 1, 1, 1, 2),
    (2, 3, 0, 2, 1, 1),
    (1, 2, 0, 1, 1, 2),
    (3, 1, 2, 0, 1, 1),
    (3, 2, 1, 0, 2, 4),
    (2, 1, 1, 1, 3, 1),
    (3, 1, 2, 2, 3, 2),
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "bare"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_conv_transpose_is_torchs(
    axes: int, geometry: tuple[int, int, int, int, int, int], bias: bool, tmp_path: Path
) -> None:
    kernel, stride, padding, extra, dilation, groups = geometry
    layer = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)[axes - 1](
        4, 8, kernel, stride, padding, extra, groups, bias, dilation, dtype=torch.float64
    )
    x = randn(2, 4, *(4, 5, 3)[:axes], seed=0).requires_grad_()
    leaves = {"x": x, **dict(layer.named_parameters())}
    call = (
        f"conv_transpose(x, channels=8, kernel={kernel}, stride={stride}, padding={padding}, "
        f"output_padding={extra}, dilation={dilation}, groups={groups}, bias={str(bias).lower()})"
    )
    require_torchs(tmp_path / "maps.esp", call, layer(x), leaves)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        *(
            (3, stride, 1, dilation, groups)
            for stride, dilation, groups in product((1, 2), (1, 2), (1, 2, 4))
        ),
        (2, 3, 0, 1, 1),  # stride > kernel: some elements are in no window
        (1, 4, 0, 1, 4),
        (2, 1, 3, 1, 2),  # padding > kernel: some windows hold nothing but zeros
        (1, 2, 2, 1, 1),
        (2, 5, 4, 2, 4),
    ],
)
@pytest.mark.parametrize("axes", [1, 2])
def test_conv_is_torchs(
    axes: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, tmp_path: Path
) -> None:
    x = randn(2, 4, *(7, 6)[:axes], seed=0).requires_grad_()
    weight = randn(8, 4 // groups, *[kernel] * axes, seed=1).requires_grad_()
    bias = randn(8, seed=2).requires_grad_()
    expected = CONVOLUTION[axes](x, weight, bias, stride, padding, dilation, groups)
    call = (
        f"conv(x, channels=8, kernel={kernel}, stride={stride}, padding={padding}, dilation={dilation}, "
        f"groups={groups})"
    )
    require_torchs(tmp_path / "maps.esp", call, expected, {"x": x, "weight": weight, "bias": bias})


@pytest.mark.parametrize("wrt", ["input", "weight"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_second_derivatives_of_a_convolution_are_torchs(axes: int, wrt: str) -> None:
    sizes, kernel = (5, 4, 3)[:axes], (3, 2, 2)[:axes]
    x, weight = randn(2, 4, *sizes, seed=0).requires_grad_(), randn(6, 2, *kernel, seed=1).requires_grad_()
    y = CONVOLUTION[axes](x, weight, None, 2, 1, 1, 2)
    g = randn(*y.shape, seed=2).requires_grad_()
    wanted, other = (x, weight) if wrt == "input" else (weight, x)
    (first,) = torch.autograd.grad(y, wanted, g, create_graph=True)
    u = randn(*first.shape, seed=3)
    expected = torch.autograd.grad(first, [g, other], u)
    build = Builder("second")
    operands = [
        build.input(name, TensorType(DType.F64, tuple(leaf.shape)))
        for name, leaf in (("g", g), ("other", other))
    ]
    result = build.op(
        f"convolution_{wrt}_grad",
        *operands,
        shape=tuple(wanted.shape),
        stride=2,
        padding=1,
        dilation=1,
        groups=2,
    )
    joint = joint_graph(build.finish({"y": result}))
    found = evaluate(joint, {"g": g.detach(), "other": other.detach(), "grad.y": u}, {})
    torch.testing.assert_close(found["y"], first.detach(), rtol=1e-9, atol=1e-9)
    for name, gradient in zip(("g", "other"), expected, strict=True):
        torch.testing.assert_close(found[f"grad.{name}"], gradient, rtol=1e-9, atol=1e-9)


UPSAMPLER = """blueprint upsampler(width: int = 8) {
    input x: f64[N, 4, H, W]
    h = gelu(conv_transpose(x, channels=width, kernel=4, stride=2, padding=1))
    output conv_transpose(h, channels=1, kernel=3, stride=2, padding=1, output_padding=1)
}"""


def test_a_program_of_symbolic_sizes_runs_at_every_size(tmp_path: Path) -> None:
    path = tmp_path / "upsampler.esp"
    path.write_text(UPSAMPLER, encoding="utf-8")
    assert [found.code for found in check(path)] == []
    ir = run_passes(lower(path), "expand")
    assert str(dict(ir.outputs) and ir.type(ir.outputs[0][1])) == "f64[N, 1, 4*H, 4*W]"
    assert len(ir.of("convolution_input_grad")) == 2
    weights = {node.name: randn(*node.type.shape, seed=seed) for seed, node in enumerate(ir.params)}  # type: ignore[arg-type]
    first, first_bias, second, second_bias = weights.values()
    for sizes in ((1, 1), (3, 2)):
        x = randn(2, 4, *sizes, seed=7)
        h = F.gelu(F.conv_transpose2d(x, first, first_bias, 2, 1))
        expected = F.conv_transpose2d(h, second, second_bias, 2, 1, 1)
        found = evaluate(ir, {"x": x}, weights)["result"]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("conv_transpose(x, channels=30, groups=4)", "channels is 30, not divisible by groups = 4"),
        ("conv_transpose(x, channels=6, groups=3)", "its channels are 4, not divisible by groups = 3"),
        (
            "conv_transpose(x, channels=6, groups=0)",
            "`groups` of `conv_transpose` is the integer 0, expected a size of at least 1",
        ),
        (
            "conv_transpose(x, channels=0)",
            "`channels` of `conv_transpose` is the integer 0, expected a size of at least 1",
        ),
        ("conv_transpose(x, channels=6, stride=0)", "`stride` is 0, expected at least 1"),
        ("conv_transpose(x, channels=6, padding=-1)", "`padding` is -1, expected at least 0"),
        (
            "conv_transpose(x, channels=6, stride=2, output_padding=2)",
            "`output_padding` is 2, expected at least 0 and below stride = 2 or dilation = 1",
        ),
        ("conv_transpose(x, channels=6, padding=4)", "padding = 4 leaves -1 elements along axis 2"),
        (
            "conv_transpose(sum(x, axes=[2, 3]), channels=6)",
            "expected \\[N, C, ...S\\] with one to three axes in S",
        ),
        ("conv(x, channels=6, groups=4)", "channels is 6, not divisible by groups = 4"),
        ("conv(x, channels=6, groups=3)", "its channels are 4, not divisible by groups = 3"),
        ("conv(x, channels=6, kernel=2)", "kernel is 2x2, only an odd one .* give `padding`"),
        ("conv(x, channels=6, padding=-2)", "`padding` is -2, expected at least 0"),
        ("conv(x, channels=6, stride=0)", "`stride` is 0, expected at least 1"),
        ("conv(x, channels=6, dilation=0)", "`dilation` is 0, expected at least 1"),
        (
            "conv(x, channels=6, kernel=9, padding=1)",
            "axis 2 and padding = 1 have no room for a window of 9",
        ),
        ("conv(sum(x, axes=[2, 3]), channels=6)", "expected \\[N, C, ...S\\] with one to three axes in S"),
    ],
)
def test_what_cannot_be_is_refused_with_the_values(call: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "maps.esp"
    path.write_text(f"blueprint maps() {{ input x: f64[2, 4, 5, 6] output {call} }}", encoding="utf-8")
    with pytest.raises((BlueprintRejected, TypeRuleViolated), match=reason):
        lower(path)
