"""`CompiledSeed`: a compiled blueprint as an `nn.Module`, with the same parameters on every tier.

The `torch` tier runs the optimised graph by torch's operators and autograd, on any device. The `triton`
tier runs the generated kernels, forward and backward; before it first takes over, its results are compared
with torch's, and a seed whose kernels fail or disagree goes back to the torch tier and says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn
from torch.compiler import is_compiling

from esper.errors import WrongArgument
from esper.ir.graph import BlueprintIR
from esper.ir.types import DType
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.ops.reference.initialise import initial_values
from esper.urza.artifact import write_artifact
from esper.urza.compiler import compile_ir
from esper.urza.eager import recomputation
from esper.urza.eager.masks_ahead import Ahead
from esper.urza.eager.torch_tier import Ready, ready
from esper.urza.errors import NameTaken, OpenWeight, RecomputedElsewhere, SeedsDoNotPickle, WrongInputs
from esper.urza.run import host_compile
from esper.urza.run.device import default_targets
from esper.urza.run.differentiable import profiled
from esper.urza.run.supply import Supply, Want, shared_supply
from esper.urza.run.tiers import SeedStatus, Tier, Tiers

Tensor = torch.Tensor
_profiler_enabled = torch._C._autograd._profiler_enabled
_any_autocast = torch._C._is_any_autocast_enabled
DTYPES = {found: dtype for dtype, found in TORCH_DTYPES.items()}


class CompiledSeed(nn.Module):
    """A module made from a graph.

    ir: the graph, whose parameter shapes must be concrete. generator: where initial weights and the random
    seed come from; torch's global generator if None. tier: `torch`, or `triton` to run kernels, which on an
    NVIDIA GPU are got ready in the background while the torch tier runs. targets: the GPUs that `save` builds
    kernels for; by default the one here, else sm_80 and sm_90. supply: where kernels come from; from builds
    of `ir` if None.

    `forward` takes the graph's inputs in order and returns its output, or a tuple of several. In training
    mode it also updates the buffers. Kernels run in training mode; in eval mode torch does.

    Dtypes: a seed computes in the dtypes that its blueprint declares, or, once `.to()`, `.half()` or
    `.double()` changed its weights, in theirs, then always on torch. Under autocast, inputs are taken to the
    declared dtypes, weights stay as they are, products run in autocast's dtype on both tiers, and outputs
    have the declared dtypes.

    Gradients of gradients: on the torch tier as far as torch's operators have them; on the triton tier
    `NoSecondGradient`. Gradients of weights and inputs that do not require any are not computed.

    `torch.compile` of a model around it sees no graph break: torch's operators on the torch tier, one custom
    operator on the triton tier. `torch.export` always takes the torch tier. Under `torch.utils.checkpoint`
    a call that is computed again draws what it drew, and leaves the buffers alone.
    """

    random_seed: Tensor

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
        self._tiers = Tiers(ir.name, tier, shared_supply(ir) if supply is None else supply)
        self._graphs: dict[tuple[bool, torch.dtype | None], Ready] = {}
        self._draws: recomputation.Draws[int | Tensor] = recomputation.Draws()
        self._ahead = Ahead()
        self._arity = len(ir.inputs)
        self._names = tuple(node.name for node in (*ir.params, *ir.buffers))
        for node in (*ir.params, *ir.buffers):
            for size in sorted(node.type.symbols):
                raise OpenWeight(weight=node.name, blueprint=ir.name, type=node.type, size=size)
        values = initial_values(ir, generator)
        for node in ir.params:
            self._register(node.name, nn.Parameter(values[node.name]))
        for node in ir.buffers:
            self._register(node.name, values[node.name])
        if ir.of("seed"):
            first = torch.randint(2**31, (), generator=generator, dtype=torch.int64)
            self.register_buffer("random_seed", first)
        self._weights = tuple(self._place(node.name) for node in ir.params)
        self._statistics = tuple(self._place(node.name) for node in ir.buffers)
        self._witnesses = self._find_witnesses()

    @property
    def ir(self) -> BlueprintIR:
        """The graph that this seed was made from."""
        return self._ir

    def status(self) -> SeedStatus:
        """Which tier runs, why, and the number of calls of each; calls inside `torch.compile` by torch's
        operators are not counted."""
        return self._tiers.status()

    def save(self, path: str | Path) -> None:
        """Writes a `.seed` file: the graph and its kernels, not the weights. Whole or not at all.

        Raises `FileUnwritable` and `KernelBuildFailed`.
        """
        compilation = compile_ir(self._ir, self._targets or default_targets())
        write_artifact(Path(path), compilation.artifact())

    def forward(self, *inputs: Tensor) -> Any:
        if len(inputs) != self._arity:
            names = ", ".join(node.name for node in self._ir.inputs)
            raise WrongInputs(blueprint=self._ir.name, found=len(inputs), expected=names)
        if is_compiling():
            return self._traced(inputs)
        state = self._state()
        dtype = self._dtype(state)
        narrow = self._autocast_dtype(inputs, state) if _any_autocast() else None
        if narrow is None:
            outputs = self._outputs(inputs, state, dtype, None)
        else:
            inputs = self._declared(inputs, [node.type.dtype for node in self._ir.inputs], dtype)
            with profiled(self._ir.name):
                outputs = self._outputs(inputs, state, dtype, narrow)
            declared = [self._ir.type(value).dtype for _, value in self._ir.outputs]
            outputs = self._declared(outputs, declared, dtype)
        return outputs[0] if len(outputs) == 1 else outputs

    def _autocast_dtype(self, inputs: tuple[Tensor, ...], state: list[Tensor]) -> torch.dtype | None:
        """What autocast takes products to on this call's device; None outside it."""
        device = next((tensor.device.type for tensor in (*inputs, *state)), "cpu")
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def _outputs(
        self,
        inputs: tuple[Tensor, ...],
        state: list[Tensor],
        dtype: torch.dtype | None,
        narrow: torch.dtype | None,
    ) -> tuple[Tensor, ...]:
        """The outputs of a call; buffers are updated. narrow: autocast's dtype, inside it."""
        graph = self._graphs.get((self.training, dtype)) or self._graph(self.training, dtype)
        given: list[Any] = [*inputs, *state]
        again = graph.updates and recomputation.is_recomputation()
        if again:
            first = len(given) - len(self._ir.buffers)
            given[first:] = [buffer.clone() for buffer in state[len(self._ir.params) :]]
        if graph.streams is not None:
            given.append(self._draw())
        names, results = graph.updated, None
        if self.training and self._tiers.wants_kernels:
            if dtype is None:
                results = self._tiers.run(self._by_name(given), self._want(given, narrow))
            else:
                self._tiers.fall_back(
                    f"the weights are {dtype}, and kernels compute as the blueprint declares"
                )
            if results is not None:
                names = tuple(name for name, _ in self._ir.updates)
        if results is None:
            self._tiers.calls["torch"] += 1
            if graph.streams is not None and type(given[-1]) is int:
                given[-1] = self._ahead(graph.streams, given[-1], inputs)
            if _profiler_enabled():
                with profiled(self._ir.name):
                    results = graph.run(*given)
            else:
                results = graph.run(*given)
        if names:
            results = self._update(names, results, again)
        return results

    def _update(self, names: tuple[str, ...], results: tuple[Tensor, ...], again: bool) -> tuple[Tensor, ...]:
        """Gives the buffers `names` the last of `results`, and returns the others, none of which changes."""
        count = len(results) - len(names)
        held = {buffer.untyped_storage().data_ptr() for buffer in self.buffers()}
        results = tuple(r.clone() if r.untyped_storage().data_ptr() in held else r for r in results)
        if names and self.training and not again:
            with torch.no_grad():  # on a GPU one launch, however many buffers there are
                torch._foreach_copy_([self._find(name) for name in names], list(results[count:]))
        return results[:count]

    def _traced(self, inputs: tuple[Tensor, ...]) -> Any:
        """A call as `torch.compile` and `torch.export` see it: nothing of it depends on what changes."""
        handle = self._prepare_trace()
        state = [self._find(name) for name in self._names]
        dtype = self._dtype(state)
        given = [*inputs, *state]
        graph = self._graphs[self.training, dtype]
        if graph.streams is not None:
            given.append(self.random_seed.clone())
            if self.training:
                self.random_seed.add_(1)
        if handle >= 0 and self.training:
            names = tuple(name for name, _ in self._ir.updates)
            results = tuple(host_compile.call(handle, given)[: len(self._ir.outputs) + len(names)])
        else:
            names = graph.updated
            results = graph.run(*given)
        count = len(results) - len(names)
        if self.training:
            with torch.no_grad():
                for name, value in zip(names, [value.clone() for value in results[count:]], strict=True):
                    self._find(name).copy_(value)
        return results[0] if count == 1 else results[:count]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _prepare_trace(self) -> int:
        """Makes ready what a trace reads; the handle of this seed's kernels, or -1 for torch's operators."""
        dtype = self._dtype(self._state())
        self._graph(self.training, dtype)
        fit = self.training and self._tiers.wants_kernels and dtype is None
        if not fit or torch.compiler.is_exporting():
            return -1
        inputs = {node.name for node in self._ir.inputs}
        learns = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return host_compile.handle_of(self._tiers, self._ask(inputs | learns, None))

    def _graph(self, training: bool, dtype: torch.dtype | None) -> Ready:
        key = training, dtype
        found = self._graphs.get(key)
        if found is None:
            found = self._graphs[key] = ready(self._ir, training, dtype)
        return found

    def _state(self) -> list[Tensor]:
        """Weights and buffers, in the graph's order."""
        try:
            state: list[Any] = [owner._parameters[key] for owner, key in self._weights]
            if self._statistics:
                state += [owner._buffers[key] for owner, key in self._statistics]
            return state
        except KeyError:  # a parametrization took a weight's place
            return [self._find(name) for name in self._names]

    def _dtype(self, state: list[Tensor]) -> torch.dtype | None:
        """The dtype that all floating weights have, if not their own."""
        for index, declared in self._witnesses:
            found = state[index].dtype
            if found is not declared:
                return found
        return None

    def _find_witnesses(self) -> tuple[tuple[int, torch.dtype], ...]:
        """One place in the state for each floating dtype there: `.to` changes all of one alike."""
        found: dict[torch.dtype, int] = {}
        for index, node in enumerate((*self._ir.params, *self._ir.buffers)):
            if node.type.dtype.is_floating:
                found.setdefault(TORCH_DTYPES[node.type.dtype], index)
        return tuple((index, dtype) for dtype, index in found.items())

    def _declared(
        self, tensors: tuple[Tensor, ...], dtypes: list[DType], dtype: torch.dtype | None
    ) -> tuple[Tensor, ...]:
        """Floating `tensors` in the dtypes that the graph has for them, or in `dtype`."""
        return tuple(
            tensor.to(dtype or TORCH_DTYPES[declared]) if declared.is_floating else tensor
            for tensor, declared in zip(tensors, dtypes, strict=True)
        )

    def _by_name(self, given: list[Tensor | int]) -> dict[str, Tensor]:
        names = (
            *(node.name for node in self._ir.inputs),
            *self._names,
            *(n.name for n in self._ir.of("seed")),
        )
        return {
            name: torch.tensor(value) if isinstance(value, int) else value
            for name, value in zip(names, given, strict=True)
        }

    def _want(self, given: list[Tensor | int], narrow: torch.dtype | None) -> Want:
        names = (*(node.name for node in self._ir.inputs), *self._names)
        asked = {n for n, tensor in zip(names, given, strict=False) if tensor.requires_grad}  # type: ignore[union-attr]
        return self._ask(asked, narrow)

    def _ask(self, asked: set[str], narrow: torch.dtype | None) -> Want:
        """What is asked of kernels: where nothing or everything is, they compute every gradient."""
        every = {n.name for n in (*self._ir.inputs, *self._ir.params) if n.type.dtype.is_floating}
        wrt = frozenset(asked & every)
        return Want(wrt if wrt and wrt != every else None, DTYPES[narrow] if narrow else None)

    def _draw(self) -> int | Tensor:
        """The random seed of this call; the next call's is another."""
        state = self._buffers["random_seed"]
        assert state is not None
        if not self.training:
            return state.clone()
        place = None
        if recomputation.may_be_checkpointed():
            place = recomputation.region()
            if recomputation.is_recomputation():
                if place is None:
                    raise RecomputedElsewhere(blueprint=self._ir.name)
                found = self._draws.repeat(place)
                if found is not None:
                    return found
        # On a CPU a number costs less than a tensor: the operators mix its bits without torch.
        on_cpu = type(state) is Tensor and state.is_cpu
        drawn = cast("int", state.item()) if on_cpu else state.clone()
        state.add_(1)
        if place is not None:
            self._draws.remember(place, drawn)
        return drawn

    def _place(self, name: str) -> tuple[nn.Module, str]:
        """The module that a weight or buffer belongs to, and its name there."""
        path, _, last = name.rpartition(".")
        return self.get_submodule(path), last

    def _replicate_for_data_parallel(self) -> Any:
        replica = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica._weights, replica._statistics = ((_Scope(), ""),), ()  # its own ones are found by name
        return replica

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
            tier=self._tiers.tier,
            targets=self._targets,
            supply=self._tiers.supply,
        )
        memo[id(self)] = copy
        for (_, mine), (_, other) in zip(_tensors(self), _tensors(copy), strict=True):
            other.data = mine.detach().clone()
            other.requires_grad_(mine.requires_grad)
            memo[id(mine)] = other
        copy.train(self.training)
        copy._tiers = self._tiers.copy()
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise SeedsDoNotPickle(blueprint=self._ir.name)


class _Scope(nn.Module):
    """Holds the parameters of one operator, so that names keep their dots."""


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
