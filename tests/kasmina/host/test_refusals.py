"""Hosts and slots that cannot work are refused before anything is changed, with names and a way out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DataParallel

from esper.errors import EsperError
from esper.kasmina.attach import attach
from esper.kasmina.errors import (
    CompiledHost,
    NotAttached,
    QuantizedHost,
    ReplicatedHost,
    ScriptedHost,
    SeedDoesNotFit,
    ShardedHost,
    SlotNeverRuns,
    SlotsShareTensor,
    UninitializedHost,
    UnsuitableOutput,
    WrappedHost,
)
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer

X = torch.zeros(2, 4)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()))


def quantized() -> nn.Module:
    with warnings.catch_warnings():  # torch says that its quantized modules will go
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})  # type: ignore[no-any-return]


def partly_compiled() -> nn.Module:
    model = plain()
    model[1].compile(backend="eager")
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():  # and torch.jit
        warnings.simplefilter("ignore")
        return torch.jit.script(plain())


Refusal = tuple[Callable[[], Any], type[EsperError], str, str]

HOSTS: dict[str, Refusal] = {
    "compiled": (
        lambda: torch.compile(plain(), backend="eager"),
        CompiledHost,
        "`OptimizedModule` is compiled",
        "plain module",
    ),
    "partly compiled": (partly_compiled, CompiledHost, "`1` is compiled", "plain module"),
    "scripted": (scripted, ScriptedHost, "the model is a RecursiveScriptModule", "script what export"),
    "data parallel": (
        lambda: DataParallel(plain()),
        WrappedHost,
        "the model is a DataParallel",
        "`model.module`, then wrap",
    ),
    "wrapped inside": (
        lambda: nn.Sequential(DataParallel(plain())),
        WrappedHost,
        "`0` is a DataParallel",
        "`model.0.module`",
    ),
    "quantized": (quantized, QuantizedHost, r"`0` is a torch\.ao\..*Linear", "quantize what export returns"),
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU()),
        UninitializedHost,
        "`0` is a LazyLinear",
        "run the model once",
    ),
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_takes_no_slots_says_why_and_stays_as_it_was(host: str) -> None:
    make, kind, message, way_out = HOSTS[host]
    model = make()
    with pytest.raises(kind, match=message) as raised:
        attach(model, r"\w", X)
    assert way_out in raised.value.help_text
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(NotAttached):
        slots(model)


def test_a_seed_in_a_replica_of_data_parallel_is_refused() -> None:
    model = attach(plain(), "0", X)
    replica = model[0]._replicate_for_data_parallel()
    replica.weight, replica.bias = model[0].weight, model[0].bias
    assert torch.equal(replica(X), model[0](X))
    slots(model)["0"].germinate("norm")
    slots(model)["0"].advance()
    model[0](X)
    with pytest.raises(ReplicatedHost, match="a Linear with a seed runs in a replica"):
        replica(X)


def test_a_model_that_only_waits_to_be_quantized_takes_slots() -> None:
    model = plain()
    model.add = torch.ao.nn.quantized.FloatFunctional()
    model.add.forward = lambda x: x  # type: ignore[method-assign]
    assert slots(attach(model, "0", X))["0"].probe.shape == (2, 4)


class Functional(nn.Module):
    """`outer` returns what `inner` in it returned; `other` is dropout between two slots."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.outer(x))  # type: ignore[no-any-return]


def test_a_container_and_its_last_module_are_one_slot() -> None:
    model = plain()
    with pytest.raises(SlotsShareTensor, match=r"`1` and `1\.1` act on one tensor") as raised:
        attach(model, ["0", "1", "1.1"], X)
    assert raised.value.help_text == "name one of them"
    assert not any(module._forward_hooks for module in model.modules())
    assert list(slots(attach(model, ["0", "1.0", "1.1"], X))) == ["0", "1.0", "1.1"]


@pytest.mark.parametrize("pattern", [["outer.1", "outer"], ["outer", "relu"], ["outer.1", "outer.2"]])
def test_what_is_one_tensor_in_evaluation_alone_is_two_slots(pattern: list[str]) -> None:
    assert len(slots(attach(Functional(), pattern, X))) == 2


def test_what_training_cannot_tell_apart_is_judged_by_evaluation() -> None:
    class NeedsBatches(Functional):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and len(x) < 8:
                raise ValueError("too few examples")
            return super().forward(x)

    with pytest.raises(SlotsShareTensor):
        attach(NeedsBatches(), ["outer.1", "outer"], X)
    assert len(slots(attach(NeedsBatches(), ["outer.1", "outer"], torch.zeros(8, 4)))) == 2


class Auxiliary(nn.Module):
    """Has a head that runs in training alone, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.aside = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.rows = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x) + (self.aside(x) if self.training else 0.0)  # type: ignore[no-any-return]


def test_a_module_that_runs_in_training_alone_takes_a_slot() -> None:
    model = attach(Auxiliary().train(), "aside", X)
    assert slots(model)["aside"].probe.shape == (2, 2)
    with pytest.raises(SlotNeverRuns, match="`aside`"):
        attach(Auxiliary().eval(), "aside", X)


@pytest.mark.parametrize("name", ["rows", "rows.0"])
def test_a_module_that_never_runs_is_refused(name: str) -> None:
    with pytest.raises(SlotNeverRuns, match=name):
        attach(Auxiliary(), name, X)


class Odd(nn.Module):
    """Returns `make(x)`, in front of a layer."""

    def __init__(self, make: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4))
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(self, x)


class Ignoring(nn.Module):
    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.odd, self.linear = odd, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.odd(x)
        return self.linear(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda odd, x: x.argmax(-1), r"torch\.int64"),
        (lambda odd, x: x > 0, r"torch\.bool"),
        (lambda odd, x: torch.complex(x, x), r"torch\.complex64"),
        (lambda odd, x: x.to_sparse(), r"a torch\.sparse_coo tensor"),
        (lambda odd, x: odd.weight, r"the host's own weight `odd\.weight`"),
        (lambda odd, x: (x, x), "a tuple"),
        (lambda odd, x: None, "a NoneType"),
    ],
    ids=["integers", "booleans", "complex", "sparse", "a parameter", "a tuple", "nothing"],
)
def test_an_output_that_no_seed_can_act_on_is_refused(make: Callable[..., Any], found: str) -> None:
    model = Ignoring(Odd(make))
    with pytest.raises(UnsuitableOutput, match=f"`odd` is {found}"):
        attach(model, "odd", X)
    assert not any(module._forward_hooks for module in model.modules())


class Growing(nn.Module):
    """One pooling layer called at two sizes, one linear layer at two lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.linear = nn.AdaptiveAvgPool1d(4), nn.Linear(4, 4)
        self.identity = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(self.identity(x))
        return self.linear(self.identity(x[:, :2, :])) + self.identity(x[:, :2, :3]).sum()  # type: ignore[no-any-return]


def test_a_seed_has_to_fit_every_call_of_a_module() -> None:
    model = attach(Growing(), ["linear", "identity"], torch.zeros(2, 5, 4))
    slot = slots(model)["linear"]
    assert (slot.probe.calls, slot.probe.others) == (2, ((2, 2, 4),))
    slot.germinate("attention", heads=2)
    with pytest.raises(SeedDoesNotFit, match=r"\[2, 5, 4\], and in another call \[2, 2, 3\]: "):
        slots(model)["identity"].plant(nn.Linear(4, 4), blueprint_id="linear")
    assert slots(model)["identity"].seed is None


def test_a_slot_is_found_by_any_name_of_its_module() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4)})
    model["b"] = model["a"]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["b"](self.parts["a"](x))  # type: ignore[no-any-return]

    bank = slots(attach(Both(), r"parts\.\w", X))
    assert list(bank) == ["parts.a"]
    assert bank["parts.b"] is bank["parts.a"]
    assert bank["parts.a"].status == "irregular: 2 calls a pass"


def test_a_sharded_host_is_refused_before_and_after_attaching() -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = plain()
        fully_shard(model[1], mesh=mesh)
        with pytest.raises(ShardedHost, match="`1` is a FSDPSequential"):
            attach(model, "0", X)
        assert not hasattr(model, "_esper_slots")
        model = attach(plain(), "0", X)
        fully_shard(model, mesh=mesh)
        optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
        with pytest.raises(ShardedHost, match="the model is a FSDPSequential"):
            Growth(model, optimizer)
    finally:
        dist.destroy_process_group()
