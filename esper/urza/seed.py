"""`CompiledSeed`: a compiled blueprint as an `nn.Module`, with the same parameters on every tier.

The `torch` tier runs the optimised graph by torch's operators and autograd, on any device. The `triton`
tier runs the generated kernels, forward and backward; before it first takes over, its results are compared
with the torch tier's, and a seed whose kernels fail or disagree goes back to the torch tier and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import fx, nn

from esper.errors import WrongArgument
from esper.ir.graph import BlueprintIR
from esper.ops.reference.evaluate import ShapeGiven
from esper.ops.reference.initialise import initial_values
from esper.passes import run_passes
from esper.urza import torch_tier
from esper.urza.artifact import write_artifact
from esper.urza.compiler import Programs, compile_ir, make_programs
from esper.urza.device import default_targets
from esper.urza.driver import cuda_driver
from esper.urza.errors import (
    NameTaken,
    SeedsDoNotPickle,
    TensorTooLarge,
    TensorUnfitForKernels,
    WrongInputs,
)
from esper.urza.launcher import Launches
from esper.urza.run import BoundProgram, Launching, launch
from esper.urza.supply import Supply
from esper.urza.toolchain import check_target

Tier = Literal["torch", "triton"]
INFERENCE = "inference,canonicalize,fold,cse,dce"
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest relative difference, in the maximum norm, between the tiers' results on a first input."""


class Kernels:
    """Both programs of a seed, bound to what launches their kernels, and which tensors pass between them.

    device: where they run.
    """

    def __init__(self, programs: Programs, launching: Launching, device: torch.device) -> None:
        self.device = device
        self.forward = BoundProgram(programs.forward, launching)
        self.backward = BoundProgram(programs.backward, launching)
        self.saved = tuple(saved.name for saved in programs.parts.saved)
        self.buffers = frozenset(node.name for node in programs.ir.buffers)
        self.results = tuple(n for n in programs.forward.outputs if not n.startswith("saved."))
        self.outputs = tuple(n for n, _ in programs.parts.forward.outputs if not n.startswith("saved."))
        given = {leaf.name for leaf in torch_tier.leaves(programs.ir)}
        self.kept = tuple(name for name in self.backward.leaf_names if name in given)


@dataclass(frozen=True)
class SeedStatus:
    """Which tier runs and why, and how often each has run."""

    tier: Tier
    reason: str
    calls: Mapping[str, int]


class CompiledSeed(nn.Module):
    """A module made from a graph.

    ir: the graph, whose parameter shapes must be concrete. generator: where initial weights and the random
    seed come from; torch's global generator if None. tier: `torch`, or `triton` to run kernels, which on an
    NVIDIA GPU are got ready in the background while the torch tier runs. targets: the GPUs that `save` builds
    kernels for; by default the one here, else sm_80 and sm_90. supply: where kernels come from; from builds
    of `ir` if None.

    `forward` takes the graph's inputs in order and returns its output, or a tuple of several. In training
    mode it also updates the buffers. On the triton tier torch refuses gradients of gradients.
    """

    random_seed: torch.Tensor

    def __init__(
        self,
        ir: BlueprintIR,
        *,
        generator: torch.Generator | None = None,
        tier: Tier = "torch",
        targets: tuple[str, ...] = (),
        supply: Supply | None = None,
    ) -> None:
        if tier not in get_args(Tier):
            raise WrongArgument(argument="tier", found=repr(tier), expected=" or ".join(get_args(Tier)))
        super().__init__()
        self._ir = ir
        self._targets = targets
        self._graphs: dict[bool, tuple[BlueprintIR, fx.GraphModule]] = {}
        self._supply = Supply(ir) if supply is None else supply
        self._kernels: Kernels | None = None
        self._agreed = False
        self._reason = "asked for" if tier == "torch" else "kernels have not run yet"
        self._tier: Tier = tier
        self._calls = {"torch": 0, "triton": 0}
        values = initial_values(ir, generator)
        for node in ir.params:
            self._register(node.name, nn.Parameter(values[node.name]))
        for node in ir.buffers:
            self._register(node.name, values[node.name])
        if ir.of("seed"):
            first = torch.randint(2**31, (), generator=generator, dtype=torch.int64)
            self.register_buffer("random_seed", first)

    @property
    def ir(self) -> BlueprintIR:
        """The graph that this seed was made from."""
        return self._ir

    def status(self) -> SeedStatus:
        """Which tier runs, why, and the number of calls of each."""
        tier: Tier = self._tier if self._agreed else "torch"
        return SeedStatus(tier, self._reason, dict(self._calls))

    def save(self, path: str | Path) -> None:
        """Writes a `.seed` file: the graph and its kernels, not the weights. Whole or not at all.

        Raises `FileUnwritable` and `KernelBuildFailed`.
        """
        compilation = compile_ir(self._ir, self._targets or default_targets())
        write_artifact(Path(path), compilation.artifact())

    def forward(self, *inputs: torch.Tensor) -> Any:
        names = [node.name for node in self._ir.inputs]
        if len(inputs) != len(names):
            raise WrongInputs(blueprint=self._ir.name, found=len(inputs), expected=", ".join(names))
        tensors = dict(zip(names, inputs, strict=True))
        tensors.update(self._state())
        ir, module = self._graph(self.training)
        for node in ir.of("seed"):
            tensors[node.name] = self._next_seed()
        results = self._run(ir, module, tensors)
        if ir.updates:
            results = tuple(_apart(result, self.buffers()) for result in results)
        outputs, updates = results[: len(ir.outputs)], results[len(ir.outputs) :]
        if self.training:
            with torch.no_grad():
                for (name, _), value in zip(ir.updates, updates, strict=True):
                    tensors[name].copy_(value)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(
        self, ir: BlueprintIR, module: fx.GraphModule, tensors: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        if self._tier == "triton" and self.training:
            results = self._run_kernels(ir, module, tensors)
            if results is not None:
                return results
        self._calls["torch"] += 1
        return torch_tier.call(module, ir, tensors)

    def _run_kernels(
        self, ir: BlueprintIR, module: fx.GraphModule, tensors: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...] | None:
        """The kernels' results; None, and the torch tier from now on, if they fail or disagree."""
        difference = None
        try:
            kernels = self._ready_kernels(next(iter(tensors.values())).device)
            if kernels is None:
                return None
            results = run_kernels(kernels, tuple(tensors), *tensors.values())
            if not self._agreed:
                difference = _difference(results, torch_tier.call(module, ir, tensors))
        except (ShapeGiven, TensorTooLarge, TensorUnfitForKernels) as error:
            self._reason = f"kernels cannot take the last call's tensors: {error}"
            return None
        except Exception as error:  # noqa: BLE001 - whatever a kernel does, training goes on
            difference = f"{type(error).__name__}: {error}"
        if difference is not None:
            self._tier, self._reason = "torch", f"kernels are in quarantine: {difference}"
            return None
        self._agreed, self._reason = True, "kernels agree with the torch tier"
        self._calls["triton"] += 1
        return results

    def _ready_kernels(self, device: torch.device) -> Kernels | None:
        """Kernels for `device`; None, and the reason told, while they are being built."""
        if self._kernels is not None and self._kernels.device == device:
            return self._kernels
        self._agreed = False
        if device.type != "cuda" or torch.version.hip is not None:
            self._kernels = Kernels(make_programs(self._ir), launch, device)
            return self._kernels
        major, minor = torch.cuda.get_device_capability(device)
        target = check_target(f"sm_{major}{minor}")
        coming = self._supply.request(target)
        if not coming.done():
            self._reason = f"kernels are being built for {target}"
            return None
        ready = coming.result()
        stream = torch._C._cuda_getCurrentRawStream
        launches = Launches(cuda_driver(), ready.codes, device.index, stream)
        self._kernels = Kernels(ready.programs, launches, device)
        return self._kernels

    def _graph(self, training: bool) -> tuple[BlueprintIR, fx.GraphModule]:
        if training not in self._graphs:
            ir = run_passes(self._ir)
            ir = ir if training else run_passes(ir, INFERENCE)
            self._graphs[training] = ir, torch_tier.graph_module(ir)
        return self._graphs[training]

    def _state(self) -> dict[str, torch.Tensor]:
        return {node.name: self._find(node.name) for node in (*self._ir.params, *self._ir.buffers)}

    def _next_seed(self) -> torch.Tensor:
        """The seed of this call; the next call's is another."""
        state = self.random_seed
        seed = state.clone()
        if self.training:
            state.add_(1)
        return seed

    def _find(self, name: str) -> torch.Tensor:
        owner: Any = self
        for part in name.split("."):
            owner = getattr(owner, part)
        assert isinstance(owner, torch.Tensor)
        return owner

    def _register(self, name: str, value: torch.Tensor) -> None:
        *path, last = name.split(".")
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                if hasattr(owner, part):
                    raise NameTaken(name=name, blueprint=self._ir.name)
                owner.add_module(part, _Scope())
            owner = getattr(owner, part)
        if hasattr(owner, last):
            raise NameTaken(name=name, blueprint=self._ir.name)
        if isinstance(value, nn.Parameter):
            owner.register_parameter(last, value)
        else:
            owner.register_buffer(last, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledSeed:
        copy = CompiledSeed(
            self._ir,
            generator=torch.Generator(),
            tier=self._tier,
            targets=self._targets,
            supply=self._supply,
        )
        memo[id(self)] = copy
        for (_, mine), (_, other) in zip(_tensors(self), _tensors(copy), strict=True):
            other.data = mine.detach().clone()
            other.requires_grad_(mine.requires_grad)
        copy.train(self.training)
        copy._kernels, copy._agreed = self._kernels, self._agreed
        copy._reason, copy._calls = self._reason, dict(self._calls)
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise SeedsDoNotPickle(blueprint=self._ir.name)


class _Scope(nn.Module):
    """Holds the parameters of one operator, so that names keep their dots."""


class _Run(torch.autograd.Function):
    """One call of the kernels under autograd: results are the graph's outputs, then its updates."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, names: tuple[str, ...], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        ctx.kernels, ctx.names = kernels, names
        ctx.sizes = kernels.forward.sizes(given)
        found = kernels.forward(given, ctx.sizes)
        kept = (given[name].clone() if name in kernels.buffers else given[name] for name in kernels.kept)
        ctx.save_for_backward(*kept, *(found[name] for name in kernels.saved))
        updates = (found[name] for name in kernels.results if name not in kernels.outputs)
        ctx.mark_non_differentiable(*updates)
        return tuple(found[name] for name in kernels.results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kernels: Kernels = ctx.kernels
        given = dict(zip((*kernels.kept, *kernels.saved), ctx.saved_tensors, strict=True))
        given.update((f"grad.{name}", g) for name, g in zip(kernels.outputs, gradients, strict=False))
        found = kernels.backward(given, ctx.sizes)
        return None, None, *(found.get(f"grad.{name}") for name in ctx.names)


def run_kernels(kernels: Kernels, names: tuple[str, ...], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Outputs and updates of one call, differentiable; `names` are the leaves that `tensors` are."""
    results: tuple[torch.Tensor, ...] = _Run.apply(kernels, names, *tensors)  # type: ignore[no-untyped-call]
    return results


def _apart(result: torch.Tensor, buffers: Iterable[torch.Tensor]) -> torch.Tensor:
    """`result`, copied if it shares memory with a buffer that is about to change."""
    held = {buffer.untyped_storage().data_ptr() for buffer in buffers}
    return result.clone() if result.untyped_storage().data_ptr() in held else result


def _difference(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> str | None:
    """How the results differ beyond rounding, or None."""
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        wide, expected_wide = (t if t.is_floating_point() else t.double() for t in (mine, theirs))
        scale = expected_wide.abs().max().item() if theirs.numel() else 0.0
        distance = (wide - expected_wide).abs().max().item() if theirs.numel() else 0.0
        if not distance <= TOLERANCE.get(theirs.dtype, 1e-4) * max(scale, 1.0):
            return f"result {index} differs by {distance:.3g} where the largest value is {scale:.3g}"
    return None


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
