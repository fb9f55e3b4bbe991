"""What our partition keeps for the backward pass, beside torch's min-cut partitioner on the same blueprint.

Every library blueprint, its parameters at their defaults, in float32 and bfloat16: bytes kept from the
forward to the backward pass beside inputs, params and buffers, and with those that the backward pass
reads. torch traces the blueprint written in its own functions through `aot_function`, in training, on
the CPU; of its min-cut with and without Inductor's decompositions the better counts, `default_partition`
is for scale. Memory is counted once, a view as what it is a view of; the traced graph is not run. Fails
if torch reports nothing.

    python benchmarks/saved_bytes.py --write
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch._functorch.aot_autograd import aot_function
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table

from esper.ir import OPERATORS, BlueprintIR
from esper.ir.dims import evaluate_size
from esper.lang import library, size_values
from esper.lang.lower import lower
from esper.ops.reference.evaluate import TORCH_DTYPES, concrete, reference
from esper.passes import DECOMPOSED, joint_graph, partition, run_passes

RESULTS = Path(__file__).parent / "results"
PRECISIONS = ("f32", "bf16")


class Counted(Exception):
    """The partition is counted; nothing needs to run."""


Tensors = tuple[torch.Tensor, ...]
Kept = tuple[int, int]
"""Bytes beside inputs, params and buffers; and bytes with those."""


def batch_norm(
    x: torch.Tensor, weight: Any, bias: Any, mean: torch.Tensor, variance: torch.Tensor, **options: Any
) -> torch.Tensor:
    """As users of torch write it: statistics change in place."""
    return F.batch_norm(
        x, mean, variance, weight, bias, options["training"], options["momentum"], options["eps"]
    )


def dropout(x: torch.Tensor, seed: object, *, p: float, offset: int) -> torch.Tensor:
    """As users of torch write it."""
    return F.dropout(x, p, True)


PLAIN: Mapping[str, Callable[..., torch.Tensor]] = {"batch_norm": batch_norm, "dropout": dropout}
"""Operators whose reference is not what torch's users write."""


def ours(ir: BlueprintIR, sizes: Mapping[str, int]) -> Kept:
    parts = partition(run_passes(joint_graph(run_passes(ir)), DECOMPOSED), sizes)
    saved = evaluate_size(parts.saved_bytes, sizes)
    leaves = [node for node in parts.backward.nodes if node.name in ir and not node.operands]
    read = sum(evaluate_size(node.type.bytes, sizes) for node in leaves if node.op != "constant")
    return saved, saved + read


def eager(
    ir: BlueprintIR, sizes: Mapping[str, int], written: Mapping[str, Callable[..., Any]] = PLAIN
) -> Callable[..., Tensors]:
    """The blueprint's outputs by torch's functions, of its inputs, params and buffers in order.

    written: functions of operators that are called in place of their references.
    """
    names = [node.name for node in (*ir.inputs, *ir.params, *ir.buffers)]

    def forward(*tensors: torch.Tensor) -> Tensors:
        values: dict[Any, Any] = {
            ir.node(name).result(): tensor for name, tensor in zip(names, tensors, strict=True)
        }
        for node in ir.nodes:
            if node.op in ("input", "param", "buffer"):
                continue
            if node.op == "constant":
                values[node.result()] = concrete(node.attrs["value"], sizes, None)
                continue
            if node.op == "seed":  # a tensor: numbers drawn of an integer use tensors of no trace
                values[node.result()] = torch.zeros((), dtype=torch.int64)
                continue
            entry = OPERATORS[node.op]
            path = entry.first_result_reference or entry.reference
            assert path is not None, node.op
            attrs = {name: concrete(value, sizes, None) for name, value in node.attrs.items()}
            operands = [None if operand is None else values[operand] for operand in node.operands]
            function: Callable[..., Any] = written.get(node.op, reference(path))
            found = function(*operands, **attrs)
            results = found if isinstance(found, tuple) else (found,)
            values.update(zip(node.results, results, strict=False))
        return tuple(values[value] for _, value in ir.outputs)

    return forward


def of_torch(ir: BlueprintIR, sizes: Mapping[str, int], cut: Callable[..., Any], table: Any) -> Kept:
    """What `cut` keeps. Raises `SystemExit` where it was not called or keeps nothing."""
    found: list[Kept] = []

    def counted(joint: Any, args: Any, *, num_fwd_outputs: int, **rest: Any) -> Any:
        forward, _ = cut(joint, args, num_fwd_outputs=num_fwd_outputs, **rest)
        (output,) = (node for node in forward.graph.nodes if node.op == "output")
        given = {_storage(n) for n in forward.graph.nodes if n.op == "placeholder" and _is_tensor(n)}
        kept: dict[Any, int] = {}
        for node in output.args[0][num_fwd_outputs:]:
            if _is_tensor(node):
                value = node.meta["val"]
                kept.setdefault(_storage(node), value.numel() * value.element_size())
        beside = sum(size for storage, size in kept.items() if storage not in given)
        found.append((beside, sum(kept.values())))
        raise Counted

    def tensor(node: Any) -> torch.Tensor:
        shape, dtype = node.type.concrete_shape(sizes), TORCH_DTYPES[node.type.dtype]
        wants = dtype.is_floating_point and node.op != "buffer"
        return torch.zeros(shape, dtype=dtype).requires_grad_(wants)

    traced = aot_function(
        eager(ir, sizes),
        fw_compiler=lambda module, _: module,
        bw_compiler=lambda module, _: module,
        partition_fn=counted,
        decompositions=table,
    )
    with suppress(Counted):
        traced(*map(tensor, (*ir.inputs, *ir.params, *ir.buffers)))
    if len(found) != 1 or found[0][1] == 0:
        raise SystemExit(f"torch's {cut.__name__} reports nothing for {ir.name}: {found}")
    return found[0]


def _is_tensor(node: Any) -> bool:
    return isinstance(node, torch.fx.Node) and isinstance(node.meta.get("val"), torch.Tensor)


def _storage(node: Any) -> Any:
    """The node's memory: a view, traced through its bases, has that of what it is a view of."""
    while node.op == "call_function" and getattr(node.target, "is_view", False):
        node = node.args[0]
    return node


def row(name: str, precision: str) -> dict[str, Any]:
    ir = lower(name, precision=precision)
    sizes = size_values(ir)
    mine = ours(ir, sizes)
    min_cuts = [
        of_torch(ir, sizes, min_cut_rematerialization_partition, table)
        for table in (None, select_decomp_table())
    ]
    whole = of_torch(ir, sizes, default_partition, None)
    return {
        "blueprint": name,
        "precision": precision,
        "sizes": sizes,
        "ours": mine,
        "torch_min_cut": min_cuts[0],
        "torch_min_cut_decomposed": min_cuts[1],
        "torch_default": whole,
        "holds": mine[0] <= min(kept for kept, _ in min_cuts),
    }


def table(rows: list[dict[str, Any]]) -> str:
    columns = ("ours", "torch_min_cut", "torch_min_cut_decomposed", "torch_default")
    lines = [
        "| blueprint | precision | " + " | ".join(columns) + " | ours <= torch |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in rows:
        cells = " | ".join(f"{found[column][0]:,} ({found[column][1]:,})" for column in columns)
        holds = "yes" if found["holds"] else "no"
        lines.append(f"| {found['blueprint']} | {found['precision']} | {cells} | {holds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/saved_bytes.*")
    arguments = parser.parse_args()
    rows = [row(entry.name, precision) for entry in library() for precision in PRECISIONS]
    text = table(rows)
    print(text)
    if arguments.write:
        machine = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        document = json.dumps({"machine": machine, "rows": rows}, indent=1)
        (RESULTS / "saved_bytes.json").write_text(document + "\n")
        (RESULTS / "saved_bytes.md").write_text(
            "# Bytes kept for the backward pass\n\n"
            f"`python benchmarks/saved_bytes.py --write`: {machine['cores']} cores, "
            f"Python {machine['python']}, torch {machine['torch']}. "
            "Bytes beside inputs, params and buffers; in brackets with those that "
            "the backward pass reads. Sizes are `esperc compile`'s defaults.\n\n" + text + "\n"
        )
    worse = [f"{found['blueprint']} {found['precision']}" for found in rows if not found["holds"]]
    if worse:
        raise SystemExit(f"torch keeps less of {', '.join(worse)}")


if __name__ == "__main__":
    main()
