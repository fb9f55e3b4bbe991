"""The language's showpiece: one blueprint with every construct, checked, lowered and fitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import check, fit, lower, signature

SOURCE = """\
## Inverted residual block: expand, filter per channel, project, add.
blueprint mobilenet_block(
    channels: dim = 64,
    expand: int = 4 in {1, 2, 4, 6},        # `in`: the domain a search may choose from
    kernel: int = 3 in {3, 5},
    act: op = relu6 in {relu, relu6, silu},
) {
    require kernel % 2 == 1: "an even kernel would shift the feature map"
    let hidden = channels * expand

    input x: f32[N, channels, ...S]         # N and S are symbolic: any size, any number of spatial axes

    h = x |> conv(hidden, kernel=1) |> batch_norm() |> act()
    h = h |> depthwise_conv(kernel=kernel) |> batch_norm() |> act()
    h = h |> conv(channels, kernel=1, init=zeros) |> batch_norm()
    output x + h
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mobilenet_block.esp"
    file.write_text(SOURCE)
    return file


def test_it_has_no_diagnostic(path: Path) -> None:
    assert check(path) == []


def test_its_signature_shows_kinds_defaults_and_domains(path: Path) -> None:
    found = {p.name: (p.kind, p.default, p.domain) for p in signature(path).parameters}
    assert found == {
        "channels": ("dim", 64, None),
        "expand": ("int", 4, (1, 2, 4, 6)),
        "kernel": ("int", 3, (3, 5)),
        "act": ("op", "relu6", ("relu", "relu6", "silu")),
    }


def test_its_graph_names_weights_by_operator_and_count(path: Path) -> None:
    ir = lower(path, sizes={"S": (40,)}, channels=16, act="silu")
    assert [str(node.type) for node in ir.params if node.name.endswith("conv.weight")] == [
        "f32[64, 16, 1]",
        "f32[64, 1, 3]",
    ]
    assert ir.node("conv_2.weight").attr("init") == "zeros"
    assert len(ir.of("silu")) == 2


def test_it_fits_maps_of_one_and_of_two_axes(path: Path) -> None:
    assert fit(path, (8, 16, 40)) == ({"channels": 16}, {"N": 8, "S": (40,)})
    assert fit(path, (8, 16, 7, 9)) == ({"channels": 16}, {"N": 8, "S": (7, 9)})
