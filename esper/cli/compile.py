"""`esperc compile`: a blueprint to kernels, for GPUs that need not be here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import graph_of, is_graph
from esper.cli.program import detail, note
from esper.cli.reproduction import reproducible
from esper.files import write_whole

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.urza.kernel import BuiltKernel

STAGES = ("ast", "ir", "joint", "plan", "torch", "triton", "ttir", "ptx", "cubin")
BUILT = ("ttir", "ptx", "cubin")


@click.command(
    epilog="""\b
Examples:
  esperc compile blueprints/mlp_block.esp --set features=256 --precision bf16 --target sm_90
  esperc compile norm --emit triton
  esperc compile resnet_block --emit torch > resnet_block.py
  esperc compile mlp_block -o mlp.seed --json
"""
)
@blueprint_options
@click.option(
    "--target",
    "targets",
    metavar="GPU",
    multiple=True,
    help="sm_80, sm_90, gfx942, … may be repeated.  [the GPU here, else sm_80 and sm_90]",
)
@click.option(
    "--tune",
    type=click.Choice(("none", "seconds", "full")),
    default="none",
    show_default=True,
    help="Choose configurations by a model of the GPU, or time a few or many on the GPU here.",
)
@click.option("-o", "--output", metavar="OUT.seed", type=click.Path(path_type=Path), help="The artifact.")
@click.option(
    "--emit",
    type=click.Choice(STAGES),
    help="Print this stage, not the report. torch: a Python file; cubin: native code.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
def compile(
    request: Request,
    targets: tuple[str, ...],
    tune: Literal["none", "seconds", "full"],
    output: Path | None,
    emit: str | None,
    as_json: bool,
) -> None:
    """Compile FILE: a blueprint's source, the name of a library blueprint, or a graph (.ir, .json).

    Forward and backward kernels are built for each target; no GPU is needed. Sizes feed the figures of
    the report alone, and tuning: N is 32, axes of a `...` are 32, others 64, unless --size says otherwise.
    What tuning chose stays in the kernel cache, and every later build for that GPU goes by it.
    """
    from esper.lang import size_values
    from esper.urza.builder.toolchain import check_target
    from esper.urza.records import compile_once
    from esper.urza.run.device import default_targets

    if emit and as_json:
        raise click.UsageError("--emit and --json exclude each other")
    chosen = tuple(map(check_target, dict.fromkeys(targets))) or default_targets()
    targeted = [word for target in chosen for word in ("--target", target)]
    if emit == "ast" and is_graph(request.file):
        raise click.UsageError("--emit ast prints a source's tree, and a graph has none")
    if emit == "ast" and output is None:
        if tune != "none":
            raise click.UsageError("--tune chooses among kernels; --emit ast makes none")
        request.check_values()
        _show(_stage(emit, request, None, chosen))
        return
    if output is not None:
        request.require_other(output)
    with reproducible("compile", request, *targeted) as case:
        ir = case.graph = graph_of(request)
        detail(f"{ir.name}: {len(ir.nodes)} nodes for {', '.join(chosen)}")
        if tune != "none":
            from esper.urza.compiler import make_programs
            from esper.urza.run.device_timer import tune_programs

            tuned = tune_programs(make_programs(ir), tune, size_values(ir, request.size_values()))
            note(f"tuned {tuned} kernels")
        if emit is None or output is not None:
            made = compile_once(
                ir,
                chosen,
                sizes=request.size_values(),
                source="" if is_graph(request.file) else request.source(),
                options=request.options(),
                with_artifact=output is not None,
            )
            if made.unrecorded:
                detail(f"not kept for the next time: {made.unrecorded}")
            if output is not None and made.artifact is not None:
                write_whole(output, made.artifact)
                note(f"wrote {output}")
        stage = "" if emit is None else _stage(emit, request, ir, chosen)
    if emit:
        _show(stage)
    elif as_json:
        click.echo(json.dumps({**made.report, "artifact": None if output is None else str(output)}, indent=2))
    else:
        click.echo(report_text(made.report))


def _stage(emit: str, request: Request, ir: BlueprintIR | None, targets: Sequence[str]) -> str | bytes:
    """One step of a blueprint's way, as text or as native code; its tree needs no graph."""
    if ir is None or emit == "ast":
        from esper.lang.tree_text import tree_text

        return tree_text(request.tree)
    if emit == "torch":
        from esper.urza.eager.module_text import module_text

        return module_text(ir, "" if is_graph(request.file) else request.signature.doc)
    from esper.urza.compiler import compile_ir, make_programs

    if emit in BUILT:
        compiled = compile_ir(ir, targets)
        if emit == "cubin":
            return _native(compiled.build.kernels)
        return compiled.stage(emit)
    return make_programs(ir).stage(emit, _sources(ir))


def _native(kernels: Sequence[BuiltKernel]) -> bytes:
    """The object files one after another, and where each begins on stderr."""
    start = 0
    for one in kernels:
        note(f"{start:>9} {len(one.cubin):>8} bytes  {one.target}  {one.kernel.direction}  {one.kernel.name}")
        start += len(one.cubin)
    return b"".join(one.cubin for one in kernels)


def _sources(ir: BlueprintIR) -> dict[str, str]:
    """The texts of the files that the graph was lowered from, by path."""
    files = {node.span.file for node in ir.nodes if node.span is not None}
    return {file: Path(file).read_text(encoding="utf-8") for file in files if Path(file).is_file()}


def _show(stage: str | bytes) -> None:
    """Text ends with a newline; native code is what it is."""
    click.echo(stage, nl=isinstance(stage, str) and not stage.endswith("\n"))


def report_text(report: Mapping[str, Any]) -> str:
    """The report for people: one line a kernel, figures of several targets with slashes between."""
    sizes = ", ".join(f"{name} = {value}" for name, value in report["sizes"].items())
    how = "from the cache" if report["cached"] else f"{report['triton_invocations']} builds"
    arenas = ", ".join(f"{size / 1e6:.3g} MB {way}" for way, size in report["arena_bytes"].items())
    lines = [
        f"{report['blueprint']}  {report['ir_hash'][:16]}",
        f"{report['parameters']:,} parameters, {report['flops'] / 1e9:.3g} GFLOP forward, "
        f"{report['saved_bytes'] / 1e6:.3g} MB saved for backward ({sizes})",
        f"arenas {arenas}",
        f"{' '.join(report['targets'])} in {report['compile_ms']:.0f} ms, {how}",
        "",
        f"{'kernel':<44} {'direction':<9} {'registers':>11} {'spilled':>8} {'matrix':>10} {'bits':>8} "
        f"{'moved MB':>9} {'least':>8}",
    ]
    rows: dict[tuple[str, str], list[dict[str, int]]] = {}
    for kernel in report["kernels"]:
        rows.setdefault((kernel["name"], kernel["direction"]), []).append(kernel)
    for (name, direction), found in rows.items():
        columns = {
            field: "/".join(str(kernel[field]) for kernel in found)
            for field in ("registers", "spill_bytes", "matrix_instructions", "vector_bits")
        }
        lines.append(
            f"{_clipped(name, 44):<44} {direction:<9} {columns['registers']:>11} "
            f"{columns['spill_bytes']:>8} {columns['matrix_instructions']:>10} {columns['vector_bits']:>8} "
            f"{found[0]['bytes_moved'] / 1e6:>9.3g} {found[0]['bytes_minimum'] / 1e6:>8.3g}"
        )
    outside = ", ".join(report["outside_calls"]) or "none"
    return "\n".join([*lines, "", f"library calls: {outside}"])


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
