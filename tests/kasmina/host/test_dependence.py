"""In a host that predicts what comes next no seed may show it, and none may mix what are examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.topology import describe, rebuild
from esper.kasmina.errors import SeedDoesNotFit
from esper.kasmina.host.dependence import SecondAxis
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.slot import SeedSlot
from tests.kasmina.hosts import HOSTS, Host
from tests.kasmina.networks import without_host_randomness


def slot_of(host: Host, slot: str | None = None) -> SeedSlot:
    model = attach(host.model(), slot or host.slot, host.batch(2, 6), output=host.output)
    return slots(model)[slot or host.slot]


class Masked(nn.Module):
    """A torch encoder under a causal mask, or under none."""

    def __init__(self, is_causal: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder, self.is_causal = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), is_causal

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.is_causal else None
        return self.encoder(x, mask=mask, is_causal=self.is_causal)  # type: ignore[no-any-return]


class SequenceFirst(nn.Module):
    """Torch's encoder as it is by default, [T, N, F], or a recurrent layer likewise."""

    def __init__(self, is_recurrent: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 16)
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 1, enable_nested_tensor=False)
        self.inner: nn.Module = nn.LSTM(16, 16) if is_recurrent else encoder

    def forward(self, x: Tensor) -> Tensor:
        result = self.inner(self.stem(x))
        return result[0] if isinstance(result, tuple) else result  # type: ignore[no-any-return]


def vectors(size: int, length: int) -> Tensor:
    return torch.randn(size, length, 16, generator=torch.Generator().manual_seed(0))


def plain(make: Callable[[], nn.Module], slot: str) -> Host:
    return Host(make, vectors, slot, "norm")


TRIED: dict[str, tuple[Host, SecondAxis | None]] = {
    "gpt2": (HOSTS["gpt2"], "causal"),
    "gpt2 attention": (HOSTS["gpt2 attention"], "causal"),
    "bert": (HOSTS["bert"], None),
    "bert encoder": (HOSTS["bert encoder"], None),
    "vit": (HOSTS["vit"], None),
    "masked encoder": (plain(lambda: Masked(True), "encoder.layers.0"), "causal"),
    "encoder": (plain(lambda: Masked(False), "encoder.layers.0"), None),
    "lstm, one answer": (HOSTS["lstm"], None),
    "encoder, sequence first": (plain(lambda: SequenceFirst(False), "stem"), "examples"),
    "lstm, sequence first": (plain(lambda: SequenceFirst(True), "stem"), "examples"),
    "each token alone": (plain(lambda: nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4)), "0"), None),
    "resnet": (HOSTS["resnet"], None),
}


@pytest.mark.parametrize("name", TRIED)
def test_the_host_shows_what_its_second_axis_is(name: str) -> None:
    host, expected = TRIED[name]
    assert slot_of(host).probe.second_axis == expected


def test_a_seed_that_mixes_examples_is_refused() -> None:
    for is_recurrent in (False, True):
        slot = slot_of(plain(partial(SequenceFirst, is_recurrent), "stem"))
        with pytest.raises(SeedDoesNotFit, match="it mixes what is on axis 1, which are the examples"):
            slot.germinate("attention", heads=2)
        with pytest.raises(SeedDoesNotFit, match="it mixes what is on axis 1"):
            slot.germinate("attention", heads=2, causal=True)
        slot.germinate("mlp_block")


def test_attention_is_causal_in_a_causal_host_and_not_in_another() -> None:
    for name in ("gpt2", "bert"):
        seed = slot_of(HOSTS[name]).germinate("attention", heads=2)
        with torch.no_grad():
            for parameter in seed.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(0))
            x = vectors(2, 6)
            other = x.clone()
            other[:, -1] = 0.0
            same = torch.allclose(seed.eval()(x)[:, :-1], seed(other)[:, :-1], atol=1e-4)
        assert same is (name == "gpt2")


def test_a_seed_that_shows_the_future_is_refused() -> None:
    slot = slot_of(HOSTS["gpt2"])
    with pytest.raises(SeedDoesNotFit, match="its positions see later ones"):
        slot.germinate("attention", heads=2, causal=False)
    encoder = without_host_randomness(lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
    with pytest.raises(SeedDoesNotFit, match="its positions see later ones"):
        slot.plant(encoder, blueprint_id="encoder")
    before = slot.stage
    slot.germinate("mlp_block")
    assert before.name == "DORMANT" and slot.stage.name == "GERMINATED"


def test_a_record_keeps_it() -> None:
    slot = slot_of(HOSTS["gpt2"])
    bank = slots(slot._ground.model)
    twin = rebuild(HOSTS["gpt2"].model(), describe(bank))
    assert twin[slot.name].probe == slot.probe
