"""`esperc verify`: every generated kernel in Triton's interpreter against float64."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import graph_or_seed_of
from esper.cli.program import note

if TYPE_CHECKING:
    from esper.urza.verify.verification import Comparison, KernelVerdict, Verification

SCHEMA_VERSION = 1

TENSORS = {
    "normal": "normal tensors",
    "outliers": "tensors with outliers",
    "special": "tensors with NaN and infinities",
    "ties": "tensors of few values",
}


@click.command(
    epilog="""\b
Examples:
  esperc verify mlp_block --set features=64 --precision bf16
  esperc verify mlp.seed --json
"""
)
@blueprint_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify(request: Request, seed: int, as_json: bool) -> None:
    """Run the kernels of FILE, a blueprint, a graph or a compiled seed, and judge each; no GPU is needed.

    Each runs on random tensors, on some with outliers, some with NaN and infinities, and some of few values,
    zeros among them. A kernel passes if its error is at most twice that of torch in the same dtype, plus one
    ulp, if it has NaN and infinities where torch has, and if it writes each element once and stays within
    its buffers. A line `whole` for each direction compares its plan in float64 with the graph before
    planning; the limit is float32's error.
    Sizes not given are small and odd, since the interpreter is slow: N is 3, axes of a `...` are 9, 7 and 5,
    others 21. Kernels that are built for aligned sizes run again at 16, 8 and 8, others 16. Exit code 1: a
    kernel or a plan failed, or no kernel ran.
    """
    from esper.urza.compiler import make_programs
    from esper.urza.verify.draws import DRAWS
    from esper.urza.verify.verification import verify_aligned, verify_programs

    programs = make_programs(graph_or_seed_of(request))
    found = verify_programs(programs, sizes=request.size_values(), seed=seed, draws=DRAWS)
    aligned = verify_aligned(programs, sizes=request.size_values(), seed=seed)
    found = replace(
        found, kernels=found.kernels + aligned.kernels, launches=found.launches + aligned.launches
    )
    click.echo(json.dumps(_document(found), indent=2) if as_json else _page(found))
    if found.launches == 0:
        note("no generated kernel ran, so nothing was verified")
    if not found.ok:
        raise click.exceptions.Exit(1)


def _document(found: Verification) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": found.ok,
        "sizes": dict(found.sizes),
        "kernels": [_record(kernel) for kernel in found.kernels],
        "wholes": [_record(whole) for whole in found.wholes],
        "not_verified": list(found.outside),
    }


def _record(kernel: KernelVerdict) -> dict[str, Any]:
    worst = kernel.worst
    return {
        "name": kernel.name,
        "direction": kernel.direction,
        "buffer": worst.buffer,
        "draw": worst.draw,
        "max_error": worst.error,
        "eager_error": worst.eager_error,
        "allowed_error": worst.allowed,
        "findings": [str(finding) for finding in kernel.findings],
        "ok": kernel.ok,
    }


def _page(found: Verification) -> str:
    lines = [f"{'kernel':<48} {'direction':<9} {'error':>10} {'eager':>10} {'allowed':>10}  verdict"]
    for kernel in (*found.kernels, *found.wholes):
        worst = kernel.worst
        verdict = "ok" if kernel.ok else "FAILED"
        lines.append(
            f"{kernel.name[:48]:<48} {kernel.direction:<9} {worst.error:>10.2e} {worst.eager_error:>10.2e} "
            f"{worst.allowed:>10.2e}  {verdict}"
        )
        lines += [f"    {finding}" for finding in kernel.findings]
        lines += [f"    {_failure(one)}" for one in kernel.comparisons if not one.ok]
    passed = sum(kernel.ok for kernel in found.kernels)
    sizes = ", ".join(f"{name} = {value}" for name, value in found.sizes.items())
    lines += ["", f"{passed} of {len(found.kernels)} kernels pass at {sizes}"]
    if found.outside:
        lines.append(f"library calls, not verified: {', '.join(found.outside)}")
    return "\n".join(lines)


def _failure(one: Comparison) -> str:
    return f"`{one.buffer}` is off by {one.error:.2e} on {TENSORS[one.draw]}, allowed is {one.allowed:.2e}"
