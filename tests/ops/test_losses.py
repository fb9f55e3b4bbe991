"""Losses and reading by indices are torch's, in value and in gradient, and refuse what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esper.lang import BlueprintRejected, check, lower
from esper.ops.reference.evaluate import evaluate
from esper.passes import joint_graph

Loss = Callable[..., torch.Tensor]
ELEMENTS: dict[str, tuple[str, Loss]] = {
    "mse": ("mse_loss(x, t{more})", F.mse_loss),
    "l1": ("l1_loss(x, t{more})", F.l1_loss),
    "huber": ("huber_loss(x, t, delta=0.7{more})", lambda x, t, **o: F.huber_loss(x, t, delta=0.7, **o)),
    "smooth": (
        "smooth_l1_loss(x, t, beta=0.3{more})",
        lambda x, t, **o: F.smooth_l1_loss(x, t, beta=0.3, **o),
    ),
    "binary": ("binary_cross_entropy_with_logits(x, t{more})", F.binary_cross_entropy_with_logits),
    "kl": ("kl_div(x, t{more})", F.kl_div),
}
CLASSES: dict[str, tuple[str, Loss]] = {
    "nll": ("nll_loss(x, t{more})", F.nll_loss),
    "cross_entropy": ("cross_entropy(x, t{more})", F.cross_entropy),
    "smoothed": (
        "cross_entropy(x, t, label_smoothing=0.2{more})",
        lambda x, t, **o: F.cross_entropy(x, t, label_smoothing=0.2, **o),
    ),
}
GENERATOR = torch.Generator()


def compare(path: Path, text: str, loss: Loss, x: torch.Tensor, t: torch.Tensor, reduction: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert [found.code for found in check(path)] == []
    expected = loss(x, t, reduction=reduction)
    g = torch.randn(expected.shape, dtype=torch.float64, generator=GENERATOR.manual_seed(1))
    found = evaluate(joint_graph(lower(path)), {"x": x.detach(), "t": t, "grad.result": g}, {})
    torch.testing.assert_close(found["result"], expected.detach(), rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(expected, x, g)
    torch.testing.assert_close(found["grad.x"], gradient, rtol=1e-9, atol=1e-9)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR.manual_seed(0)).requires_grad_()


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # torch's advice on kl_div
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ELEMENTS)
def test_a_loss_of_elements_is_torchs(name: str, reduction: str, tmp_path: Path) -> None:
    call, loss = ELEMENTS[name]
    x = drawn(3, 4)
    t = torch.rand(3, 4, dtype=torch.float64, generator=GENERATOR.manual_seed(2))
    if name == "kl":
        t[0] = 0.0
    else:
        t[1] = x.detach()[1]  # where the difference is zero the gradient is
    text = f"blueprint loss() {{ input x: f64[3, 4] input t: f64[3, 4] output {call} }}"
    compare(tmp_path / "loss.esp", text.replace("{more}", f", reduction={reduction}"), loss, x, t, reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rest", [(), (2, 3)], ids=["rows", "maps"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_loss_of_classes_is_torchs(
    name: str, rest: tuple[int, ...], reduction: str, tmp_path: Path
) -> None:
    call, loss = CLASSES[name]
    x = drawn(4, 5, *rest)
    t = torch.randint(5, (4, *rest), generator=GENERATOR.manual_seed(3))
    axes = "".join(f", {size}" for size in rest)
    text = f"blueprint loss() {{ input x: f64[4, 5{axes}] input t: i64[4{axes}] output {call} }}"
    compare(tmp_path / "loss.esp", text.replace("{more}", f", reduction={reduction}"), loss, x, t, reduction)


def test_an_embedding_is_torchs_with_its_gradient(tmp_path: Path) -> None:
    path = tmp_path / "table.esp"
    path.write_text(
        "blueprint table(rows: dim = 7, width: dim = 3) {"
        " input i: i64[N, T] output embedding(i, rows=rows, features=width) }",
        encoding="utf-8",
    )
    assert check(path) == []
    indices = torch.tensor([[0, 6, 2], [2, 2, 5]])
    weight = drawn(7, 3)
    g = drawn(2, 3, 3).detach()
    found = evaluate(
        joint_graph(lower(path)),
        {"i": indices, "grad.result": g},
        {"embedding.weight": weight.detach()},
        dtype=torch.float64,
    )
    expected = F.embedding(indices, weight)
    torch.testing.assert_close(found["result"], expected.detach())
    (gradient,) = torch.autograd.grad(expected, weight, g)
    torch.testing.assert_close(found["grad.embedding.weight"], gradient)


def test_one_hot_and_gather_are_torchs(tmp_path: Path) -> None:
    path = tmp_path / "reads.esp"
    path.write_text(
        "blueprint reads() { input x: f32[4, 5] input i: i64[4, 2]"
        " output gather(x, i) output hot = one_hot(i, classes=5, dtype=f64) }",
        encoding="utf-8",
    )
    x, i = torch.randn(4, 5), torch.randint(5, (4, 2))
    found = evaluate(lower(path), {"x": x, "i": i}, {})
    assert torch.equal(found["result"], x.gather(1, i))
    assert torch.equal(found["hot"], F.one_hot(i, 5).double())


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("mse_loss(x, y)", r"`x` is f32\[4, 5\] and `y` is f32\[4, 4\], expected one type"),
        ("huber_loss(x, x, delta=0.0)", r"`delta` is 0.0, expected a number above zero"),
        ("mse_loss(x, x, reduction=batch)", r"is `batch`, expected one of mean, sum, none"),
        ("cross_entropy(x, x)", r"`x` is f32\[4, 5\], expected i64\[4\]: a class for each example"),
        ("cross_entropy(x, i, label_smoothing=1.5)", r"`label_smoothing` is 1.5, expected 0 to 1"),
        ("embedding(x, rows=3, features=2)", r"`x` is f32\[4, 5\], expected dtype i64"),
        ("gather(x, i)", r"only their axis 1 may differ"),
        ("one_hot(i, classes=0)", r"`classes` is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_values(call: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "loss.esp"
    path.write_text(
        f"blueprint loss() {{ input x: f32[4, 5] input y: f32[4, 4] input i: i64[4] output {call} }}",
        encoding="utf-8",
    )
    with pytest.raises(BlueprintRejected, match=reason):
        lower(path)
