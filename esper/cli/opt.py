"""`esperc opt`: passes on a graph, textual IR in or a blueprint in, textual IR out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esper.cli.blueprint import Request, blueprint_options
from esper.cli.graphs import graph_of
from esper.cli.opt_figures import Figures, times_text
from esper.cli.opt_objective import OBJECTIVES, TARGETS, Question
from esper.cli.program import note
from esper.cli.reproduction import reproducible
from esper.cli.smallest import smallest

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.passes import PassRecord

SCHEMA_VERSION = 1


def _list_passes(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from esper.passes import DEFAULT, PASSES
    from esper.passes.pipeline import options, summary

    for name, entry in PASSES.items():
        click.echo(f"{name:<14} {entry.law.value:<18} {summary(entry)}")
        for option in options(entry):
            click.echo(f"{'':<14} {'':<18} {option}")
    click.echo(f"\nwithout --passes: {DEFAULT}")
    context.exit()


@click.command(
    epilog="""\b
Examples:
  esperc opt mlp_block --set features=64
  esperc opt block.ir --passes 'expand,autodiff{wrt=[x]},dce' --stats --time
  esperc opt block.ir --passes cse --reduce -o small.ir
  esperc opt squeeze_excite --objective latency --stats
  esperc opt resnet_block --passes inference --objective latency --forward
  esperc opt --list
"""
)
@blueprint_options
@click.option("--passes", metavar="PIPELINE", help="Passes with commas between, as in 'expand,cse,dce'.")
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="Choose passes that serve it, to run after those of --passes.",
)
@click.option("--target", type=click.Choice(TARGETS), help="The GPU by whose datasheet --objective chooses.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    help="The greatest relative error of outputs and gradients that --objective may cause; 0.1 unless set.",
)
@click.option("--forward", is_flag=True, help="For --objective: the graph is not trained.")
@click.option("--fast-math", is_flag=True, help="Set the option fast_math of each pass that has it.")
@click.option("-o", "--output", metavar="OUT.ir", type=click.Path(path_type=Path), help="In place of stdout.")
@click.option("--print-between", is_flag=True, help="Print the graph after each pass on stderr.")
@click.option("--stats", is_flag=True, help="Print what each pass changed on stderr: counts and operators.")
@click.option("--time", "as_time", is_flag=True, help="Print the time of each pass on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with the graph in it.")
@click.option(
    "--reduce",
    "reduces",
    is_flag=True,
    help="Where a pass fails or breaks its law: print a smallest graph on which it does, and exit with 1.",
)
@click.option("--seconds", type=click.FloatRange(min=0), help="The time that --reduce may take.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_passes,
    help="List the passes with their laws and options.",
)
@click.pass_context
def opt(
    context: click.Context,
    request: Request,
    passes: str | None,
    objective: str | None,
    target: str | None,
    budget: float | None,
    forward: bool,
    fast_math: bool,
    output: Path | None,
    print_between: bool,
    stats: bool,
    as_time: bool,
    as_json: bool,
    reduces: bool,
    seconds: float | None,
) -> None:
    """Run passes on FILE: a graph (.ir, .json), a blueprint's source, or the name of a library blueprint.

    The graph is verified before the first pass and after each, and printed as text at the end. `--list`
    names the passes. With `--objective` they are chosen by the plans of the graphs that they make, and
    `--stats` tells what each does for it.
    """
    from esper.lang import size_values
    from esper.passes import DEFAULT, parse_pipeline, pipeline_text, run_passes
    from esper.passes.pipeline import set_everywhere

    if seconds is not None and not reduces:
        raise click.UsageError("--seconds is for --reduce")
    if objective is None and (target is not None or budget is not None or forward):
        raise click.UsageError("--target, --budget and --forward are for --objective")
    pipeline = parse_pipeline(passes if passes is not None else DEFAULT if objective is None else "")
    if fast_math:
        pipeline = set_everywhere(pipeline, "fast_math", True)
    words = pipeline_text(pipeline)
    question = None if objective is None else Question(objective, target or TARGETS[0], budget, not forward)
    passed: list[dict[str, Any]] = []

    def observe(record: PassRecord, after: BlueprintIR) -> None:
        fields = {**asdict(record), "ms": round(record.ms, 3)}
        passed.append(fields | (figures.after(after) if figures else {}))
        if print_between:
            click.echo(f"# after {record.name}\n{after}\n", err=True)

    asked = [
        "--passes",
        words,
        *(question.arguments() if question else []),
        *(["--reduce"] if reduces else []),
    ]
    with reproducible("opt", request, *asked) as case:
        ir = case.graph = graph_of(request)
        size_values(ir, request.size_values())  # refuses what the graph has not, whatever reads the sizes
        answer = question.answered(run_passes(ir, pipeline), request) if question else None
        if answer is not None:
            pipeline += parse_pipeline(answer.found.pipeline)
            words = pipeline_text(pipeline)
        if reduces and (found := smallest(ir, pipeline, request.size_values(), seconds)) is not None:
            note(str(found))
            _write(found.ir, found.document(), as_json, output)
            context.exit(1)
        figures = Figures(ir, request.size_values()) if stats else None
        if print_between:
            click.echo(f"# given\n{ir}\n", err=True)
        result = run_passes(ir, pipeline, observe)
        if as_time:
            click.echo(times_text(passed), err=True)
        if figures:
            click.echo(figures.text(passed), err=True)
        document: dict[str, Any] = {
            "blueprint": result.name,
            "ir_hash": result.hash,
            "pipeline": words,
            "passes": passed,
        }
        if answer is not None:
            document["optimization"] = answer.document()
            if stats:
                click.echo(answer.text(), err=True)
        _write(result, document, as_json, output)


def _write(ir: BlueprintIR, document: dict[str, Any], as_json: bool, output: Path | None) -> None:
    """The graph to stdout or to `output`; with `as_json`, `document` with the graph in it to stdout."""
    from esper.files import write_whole

    if output is not None:
        write_whole(output, f"{ir.to_json() if output.suffix == '.json' else ir}\n")
        note(f"wrote {output}")
    if as_json:
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document, "ir": str(ir)}, indent=2))
    elif output is None:
        click.echo(str(ir))
