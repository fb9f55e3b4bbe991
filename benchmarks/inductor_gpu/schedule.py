"""TorchInductor's GPU schedule of library blueprints, without a GPU: the kernels launched, the bytes moved.

The blueprint, written in the functions that users of torch write, is traced on fake tensors of a CUDA
device (`pretend_gpu.cpp`, loaded by `LD_PRELOAD`) and goes through `compile_fx` as it does under
`torch.compile`: AOT autograd, Inductor's decompositions, its joint-graph and post-grad passes, the min-cut
partitioner, lowering, fusion. It stops where Triton's text would be written, and the scheduler's fused nodes
are read. Run by `inductor.py`, which gives it a precision and names of blueprints; prints a line of JSON for
each.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import getitem
from types import SimpleNamespace
from typing import Any

import torch
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config
import torch.nn.functional as F
from torch import fx
from torch._dynamo.device_interface import CudaInterface
from torch._guards import TracingContext, tracing
from torch._inductor import ir as inductor_ir
from torch._inductor import scheduler as inductor_scheduler
from torch._inductor.compile_fx import compile_fx
from torch._inductor.fx_passes import joint_graph, post_grad
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.saved_bytes import PLAIN, eager
from esper.ir import BlueprintIR
from esper.lang import size_values
from esper.lang.lower import lower
from esper.ops.reference.evaluate import TORCH_DTYPES

DEVICE = torch.device("cuda:0")
H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    warp_size=32,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_block=1024,
    max_threads_per_multi_processor=2048,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    L2_cache_size=50 << 20,
    total_memory=80 << 30,
    gcnArchName="",
)

Tensor = torch.Tensor
Record = dict[str, Any]

LAUNCHES: Mapping[str, int] = {"_scaled_dot_product_flash_attention_backward": 3}
"""Library calls known to launch several kernels: here rowsum(g * result), the gradients, dq's conversion."""


# --- what users of torch write where a reference is written for float64, or with our own random numbers ---


def dropout(x: Tensor, seed: object, p: float) -> Tensor:
    return x if seed is None or not p else F.dropout(x, p, True)


def drop_path(x: Tensor, seed: object, *, p: float, offset: int) -> Tensor:
    kept = torch.rand((x.shape[0], *[1] * (x.ndim - 1)), device=x.device) >= p
    return x * kept / (1.0 - p)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: object,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    offset: int,
) -> Tensor:
    """The kernel that torch's dispatcher takes on a GPU for bf16 and f16; fake tensors do not choose one."""
    rate, factor = (dropout if seed is not None else 0.0), scale or 1.0 / math.sqrt(q.shape[-1])
    if mask is None and q.dtype in (torch.bfloat16, torch.float16):
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        found: Tensor = flash(q, k, v, rate, causal, False, scale=factor)[0]
        return found
    k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], 1) for one in (k, v))
    added = None if mask is None else mask.expand(*q.shape[:3], k.shape[2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    result: Tensor = efficient(q, k, v, added, True, rate, causal, scale=factor)[0]
    return result


def multi_head_attention(
    x: Tensor,
    context: Tensor | None,
    mask: Tensor | None,
    seed: object,
    *weights: Tensor | None,
    heads: int,
    kv_heads: int,
    **options: Any,
) -> Tensor:
    (wq, bq), (wk, bk), (wv, bv), (w, b) = zip(weights[::2], weights[1::2], strict=True)
    assert wq is not None and wk is not None and wv is not None and w is not None
    source = x if context is None else context

    def split(y: Tensor, count: int) -> Tensor:
        return y.reshape(*y.shape[:2], count, -1).transpose(1, 2)

    q = split(F.linear(x, wq, bq), heads)
    k, v = (split(F.linear(source, wi, bi), kv_heads or heads) for wi, bi in ((wk, bk), (wv, bv)))
    attended = attention(q, k, v, mask, seed, scale=0.0, **options)
    return F.linear(attended.transpose(1, 2).flatten(2), w, b)


def add_and_norm(
    x: Tensor,
    y: Tensor,
    seed: object,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float,
    dropout: float,
    offset: int,
) -> Tensor:
    dropped = y if seed is None or not dropout else F.dropout(y, dropout, True)
    return F.layer_norm(x + dropped, x.shape[-1:], weight, bias, eps)


@torch.library.custom_op("cudnn::recurrent", mutates_args=())
def recurrent(x: Tensor, weights: list[Tensor], hidden: int) -> Tensor:
    """What `nn.GRU` and `nn.LSTM` ask of cuDNN, to which Dynamo leaves them: one call each way.

    Torch has no fake of its own for the backward call. cuDNN's reserve space is not counted.
    """
    raise NotImplementedError


@torch.library.custom_op("cudnn::recurrent_backward", mutates_args=())
def recurrent_backward(g: Tensor, x: Tensor, y: Tensor, weights: list[Tensor]) -> list[Tensor]:
    raise NotImplementedError


@recurrent.register_fake
def _(x: Tensor, weights: list[Tensor], hidden: int) -> Tensor:
    return x.new_empty(*x.shape[:2], hidden)


@recurrent_backward.register_fake
def _(g: Tensor, x: Tensor, y: Tensor, weights: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(one) for one in (x, *weights)]


def _save(ctx: Any, inputs: Any, output: Tensor) -> None:
    x, weights, _ = inputs
    ctx.save_for_backward(x, output, *weights)


def _backward(ctx: Any, g: Tensor) -> Any:
    x, y, *weights = ctx.saved_tensors
    dx, *dw = recurrent_backward(g, x, y, weights)
    return dx, dw, None


recurrent.register_autograd(_backward, setup_context=_save)


def rnn(x: Tensor, *weights: Tensor | None, reverse: bool) -> tuple[Tensor, ...]:
    given = [one for one in weights if one is not None]
    y = recurrent(x.flip(1) if reverse else x, given, given[1].shape[1])
    return (y.flip(1) if reverse else y,)


WRITTEN: Mapping[str, Callable[..., Any]] = {
    **PLAIN,
    "drop_path": drop_path,
    "scaled_dot_product_attention": attention,
    "multi_head_attention": multi_head_attention,
    "add_and_norm": add_and_norm,
    "gru": rnn,
    "lstm": rnn,
}


# --- a GPU that is not there ---


class OnCpu(TorchDispatchMode):
    """Constants that Inductor folds are made on the CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if given.get("device") is not None:
            given["device"] = torch.device("cpu")
        return func(*args, **given)


def replace(owner: Any, name: str, answer: Any) -> Any:
    """Puts `answer` in the place of what `owner` calls `name`, and returns what was there."""
    kept = getattr(owner, name)
    setattr(owner, name, answer)
    return kept


def pretend() -> None:
    """Makes torch and Inductor believe in an H100, as far as scheduling asks. For a process of its own."""
    if torch._C._get_accelerator().type != "cuda":
        raise SystemExit("pretend_gpu is not loaded: run benchmarks/inductor.py")
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "_lazy_init": lambda: None,
        "synchronize": lambda device=None: None,
        "get_device_properties": lambda device=None: H100,
        "get_device_capability": lambda device=None: (H100.major, H100.minor),
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "is_bf16_supported": lambda including_emulation=True: True,
    }
    for name, answer in answers.items():
        replace(torch.cuda, name, answer)
        if hasattr(CudaInterface, name):
            replace(CudaInterface, name, staticmethod(answer))
    replace(CudaInterface.Worker, "get_device_properties", staticmethod(answers["get_device_properties"]))
    for passes in (joint_graph, post_grad):  # examples of the patterns they look for are made on the CPU
        prepare = passes.lazy_init
        replace(passes, "lazy_init", lambda device=None, prepare=prepare: prepare(torch.device("cpu")))
    deduce = joint_graph.UniformValueConstantFolder._deduce_value

    def on_cpu(self: Any, node: Any) -> Any:
        with OnCpu():
            return deduce(self, node)

    replace(joint_graph.UniformValueConstantFolder, "_deduce_value", on_cpu)
    inductor_config.shape_padding = (
        False  # it would time padded products; without, Inductor has fewer kernels
    )
    inductor_config.fx_graph_cache = False
    inductor_config.compile_threads = 1
    functorch_config.enable_autograd_cache = False
    functorch_config.force_non_lazy_backward_lowering = True


@contextmanager
def scheduled() -> Iterator[list[GraphLowering]]:
    """The graphs that Inductor schedules meanwhile, in order; no code is written for them."""
    found: list[GraphLowering] = []

    def stop(graph: GraphLowering) -> Any:
        graph.init_wrapper_code()
        graph._update_scheduler()
        found.append(graph)
        return SimpleNamespace(__file__="", call=lambda arguments: None)

    kept = replace(GraphLowering, "compile_to_module", stop)
    try:
        yield found
    finally:
        replace(GraphLowering, "compile_to_module", kept)


# --- reading the schedule ---


def schedule(ir: BlueprintIR, sizes: Mapping[str, int]) -> list[Record]:
    """A record for each launch of forward and backward. Raises `SystemExit` where Inductor has none."""
    leaves = (*ir.inputs, *ir.params, *ir.buffers)

    def tensor(node: Any) -> Tensor:
        dtype = TORCH_DTYPES[node.type.dtype]
        shape = node.type.concrete_shape(sizes)
        return torch.empty(shape, dtype=dtype, device=DEVICE).requires_grad_(node.op != "buffer")

    mode = FakeTensorMode()
    with mode:
        tensors = [tensor(node) for node in leaves]
    state = frozenset(f"primals_{i}" for i, node in enumerate(leaves, 1) if node.op != "input")
    with tracing(TracingContext(mode)), scheduled() as graphs:
        compile_fx(_block(ir, sizes), tensors)
    if [graph.is_backward for graph in graphs] != [False, True]:
        raise SystemExit(f"inductor scheduled {len(graphs)} graphs of {ir.name}, not forward and backward")
    found = []
    for graph in graphs:
        apart = set(state)
        if graph.is_backward:  # its results are the gradients, in the order of the leaves
            gradients = zip(leaves, map(_buffer, graph.graph_outputs), strict=True)
            apart |= {name for node, name in gradients if node.op != "input" and name}
            apart |= _handed_over(graphs[0], graph, state)
        with V.set_graph_handler(graph):
            records = [_record(graph, node, apart) for node in graph.scheduler.nodes]
        found += [record for record in records if record is not None]
    if sum(record["bytes"] for record in found) == 0:
        raise SystemExit(f"inductor's schedule of {ir.name} moves nothing")
    return found


def _block(ir: BlueprintIR, sizes: Mapping[str, int]) -> fx.GraphModule:
    """The blueprint as a graph, from which Inductor sees which results users see and which are only saved."""
    graph = fx.Graph()
    leaves = tuple(graph.placeholder(f"leaf_{i}") for i in range(len(ir.inputs + ir.params + ir.buffers)))
    called = graph.call_function(eager(ir, sizes, WRITTEN), leaves)
    graph.output(tuple(graph.call_function(getitem, (called, i)) for i in range(len(ir.outputs))))
    return fx.GraphModule(torch.nn.Module(), graph)


def _buffer(output: Any) -> str | None:
    constants = (inductor_ir.NoneAsConstantBuffer, inductor_ir.ShapeAsConstantBuffer)
    return None if isinstance(output, constants) else output.get_name()


def _handed_over(forward: GraphLowering, backward: GraphLowering, state: frozenset[str]) -> set[str]:
    """What the backward pass gets under names of its own that is, or is a view of, one of `state`."""
    names = [name for name in backward.graph_inputs if not name.startswith("tangents")]
    saved = forward.graph_outputs[len(forward.graph_outputs) - len(names) :]
    return {name for name, output in zip(names, saved, strict=True) if _buffer(output) in state}


def _record(graph: GraphLowering, node: Any, apart: set[str]) -> Record | None:
    """Of one launch: label, bytes of activations, bytes of parameters, state and their gradients."""
    if isinstance(node, inductor_scheduler.NopKernelSchedulerNode):
        return None
    moved = node.get_read_write_buffer_accesses(True, True)
    launches, library, again = 1, False, 0
    if isinstance(node, inductor_scheduler.ExternKernelSchedulerNode):
        if isinstance(node.node, inductor_ir.MultiOutput):
            return None
        called: Any = node.node
        kernel = getattr(called, "op_overload", None) or called.python_kernel_name
        label, library = str(kernel).removeprefix("extern_kernels."), True
        name = label.removeprefix("aten.").split(".")[0]
        launches = LAUNCHES.get(name, 1)
        if name == "convolution_backward":
            launches = sum(isinstance(one, inductor_ir.IRNode) for one in called.outputs)
            again = (launches - 1) * moved[called.inputs[0].get_name()]
    else:
        origins = [str(o.target).removeprefix("aten.") for s in node.get_nodes() for o in s.node.origins]
        label = " ".join(dict.fromkeys(origins))
    return {
        "direction": "backward" if graph.is_backward else "forward",
        "label": label[:120],
        "library": library,
        "launches": launches,
        "bytes": sum(size for name, size in moved.items() if name not in apart) + again,
        "bytes_apart": sum(size for name, size in moved.items() if name in apart),
    }


def main() -> None:
    precision, *names = sys.argv[1:]
    pretend()
    for name in names:
        ir = lower(name, precision=precision)
        print(json.dumps({"blueprint": name, "kernels": schedule(ir, size_values(ir))}), flush=True)


if __name__ == "__main__":
    main()
