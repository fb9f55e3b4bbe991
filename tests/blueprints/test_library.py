"""What every blueprint keeps: an oracle, a start as its documentation says, weights that train, a paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import esper
from esper.lang import LibraryEntry, library
from esper.urza.run.seed import CompiledSeed
from tests.blueprints import test_convolutional, test_sequences

ENTRIES = library()
OF_ENTRY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
OTHER_STARTS = {
    "conv_block": "does not start as the identity",
    "dense_block": "first channels of the result are `x`",
    "highway": "starts as 95 % of the input",
    "inception_block": "starts as `act(x)`",
    "resnet_block": "starts as `act(x)`",
    "resnet_bottleneck": "starts as `act(x)`",
    "resnet_downsample": "starts as the shortcut",
    "shuffle_block": "starts as `act(x)`",
    "transformer_post_norm": "starts as a layer normalisation",
    "unet_down": "fits no slot",
    "unet_up": "fits no slot",
}
"""Blueprints whose seeds do not start as the identity, and the words that say so."""


def compiled(entry: LibraryEntry) -> tuple[CompiledSeed, list[Tensor]]:
    """The blueprint without arguments, compiled for the torch tier, and inputs for it."""
    seed = esper.compile(entry.name, generator=torch.Generator().manual_seed(0))
    sizes = {symbol: 2 if symbol == "N" else 6 for symbol in seed.ir.symbols}
    generator = torch.Generator().manual_seed(1)
    shapes = [node.type.concrete_shape(sizes) for node in seed.ir.inputs]
    return seed, [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def test_every_blueprint_has_an_oracle() -> None:
    cases = [*test_convolutional.CASES, *test_sequences.CASES]
    assert {entry.name for entry in ENTRIES} == {case[0] for case in cases}
    assert len(ENTRIES) >= 32


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@OF_ENTRY
def test_a_seed_starts_as_its_documentation_says(entry: LibraryEntry, training: bool) -> None:
    doc = " ".join(entry.signature.doc.split())
    if entry.name in OTHER_STARTS:
        assert OTHER_STARTS[entry.name] in doc
        return
    assert "the seed starts as the identity" in doc
    seed, (x, *others) = compiled(entry)
    assert torch.equal(seed.train(training)(x, *others), x)


@OF_ENTRY
def test_a_seed_without_arguments_gives_every_weight_a_finite_gradient(entry: LibraryEntry) -> None:
    seed, inputs = compiled(entry)
    found = seed(*inputs)
    for y in found if isinstance(found, tuple) else (found,):
        y.square().mean().backward(retain_graph=True)
    gradients = [tensor.grad for tensor in (*inputs, *seed.parameters())]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient is not None and gradient.any() for gradient in gradients[len(inputs) :])


@OF_ENTRY
def test_the_documentation_names_a_paper_with_its_year(entry: LibraryEntry) -> None:
    doc = " ".join(entry.signature.doc.split())
    summary, _, rest = entry.signature.doc.partition("\n\n")
    assert summary == entry.summary and len(summary) <= 110
    assert any(f" {year}," in doc or f" {year} " in doc for year in range(1997, 2026)) and rest
