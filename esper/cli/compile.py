"""`esperc compile`: a blueprint to kernels, for GPUs that need not be here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.program import detail, note
from esper.cli.reproduction import reproducible

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.urza.compiler import Compilation

STAGES = ("ir", "joint", "plan", "torch", "triton", "ttir", "ptx")
BUILT = ("ttir", "ptx")


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
    "--emit", type=click.Choice(STAGES), help="Print this stage, not the report; torch: a Python file."
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
    """Compile FILE, a blueprint's source or the name of a library blueprint.

    Forward and backward kernels are built for each target; no GPU is needed. Sizes feed the figures of
    the report alone, and tuning: N is 32, axes of a `...` are 32, others 64, unless --size says otherwise.
    What tuning chose stays in the kernel cache, and every later build for that GPU goes by it.
    """
    from esper.lang import size_values
    from esper.urza.builder.toolchain import check_target
    from esper.urza.compiler import compile_ir, make_programs
    from esper.urza.run.device import default_targets

    if emit and as_json:
        raise click.UsageError("--emit and --json exclude each other")
    chosen = tuple(map(check_target, dict.fromkeys(targets))) or default_targets()
    targeted = [word for target in chosen for word in ("--target", target)]
    with reproducible("compile", request, *targeted) as case:
        ir = case.graph = request.lower()
        if emit == "torch":
            from esper.urza.eager.module_text import module_text

            text = module_text(ir, request.signature.doc)
            if output is None:
                _show(text)
                return
        if emit and emit not in BUILT and output is None:
            _show(make_programs(ir).stage(emit, _sources(ir)))
            return
        detail(f"{ir.name}: {len(ir.nodes)} nodes for {', '.join(chosen)}")
        if tune != "none":
            from esper.urza.run.device_timer import tune_programs

            tuned = tune_programs(make_programs(ir), tune, size_values(ir, request.size_values()))
            note(f"tuned {tuned} kernels")
        compiled = compile_ir(ir, chosen, sizes=request.size_values())
        if output is not None:
            from esper.urza.artifact import write_artifact

            write_artifact(output, compiled.artifact(request.source(), request.options()))
            note(f"wrote {output}")
    if emit == "torch":
        _show(text)
    elif emit:
        _show(compiled.stage(emit))
    elif as_json:
        report = compiled.report() | {"artifact": None if output is None else str(output)}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(report_text(compiled))


def _sources(ir: BlueprintIR) -> dict[str, str]:
    """The texts of the files that the graph was lowered from, by path."""
    files = {node.span.file for node in ir.nodes if node.span is not None}
    return {file: Path(file).read_text(encoding="utf-8") for file in files if Path(file).is_file()}


def _show(stage: str | bytes) -> None:
    """Text ends with a newline; a cubin is what it is."""
    click.echo(stage, nl=isinstance(stage, str) and not stage.endswith("\n"))


def report_text(compiled: Compilation) -> str:
    """The report for people: one line a kernel, figures of several targets with slashes between."""
    report = compiled.report()
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
