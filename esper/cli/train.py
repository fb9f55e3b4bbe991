"""`esper train`: trains a host and grows it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from esper.cli.program import Settings

TASK_NAMES = ("mnist1d", "digits", "text", "cifar10")
HOST_NAMES = ("cnn", "mlp", "gpt")
POLICY_NAMES = ("heuristic", "never", "random", "schedule")
INCUBATION_NAMES = ("none", "straight_through", "counterfactual")


class HostName(click.ParamType[str]):
    """A host of ours, or an import path."""

    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ":" not in value and value not in HOST_NAMES:
            known = f"{value!r} is neither {', '.join(HOST_NAMES)} nor package.module:function"
            self.fail(known + _nearest(value, HOST_NAMES), param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in HOST_NAMES if name.startswith(incomplete)]


class TaskName(click.Choice[str]):
    """A task of ours."""

    def __init__(self) -> None:
        super().__init__(TASK_NAMES)

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        text = super().get_invalid_choice_message(value, ctx)
        return text.rstrip(".") + _nearest(str(value), TASK_NAMES)


def _nearest(name: str, known: Sequence[str]) -> str:
    from esper.lang.names import did_you_mean

    found = did_you_mean(name, known)
    return f"; {found}" if found else ""


def _names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@click.command(
    epilog="""\b
Examples:
  esper train --task mnist1d --seed 0
  esper train runs/mnist1d-0-1/config.yaml --seed 1 --out runs/again
  esper train --task digits --policy never --json
  esper train --out runs/long --resume auto
"""
)
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--task", type=TaskName(), help="What to learn.  [mnist1d]")
@click.option("--data", metavar="DIR", help="The folder of the task's files, where it reads any.")
@click.option(
    "--host",
    type=HostName(),
    help="The network that grows: cnn, mlp, gpt, or package.module:function.  [cnn]",
)
@click.option("--slots", metavar="A,B", callback=_names, help="Where seeds may go.  [the host's choice]")
@click.option(
    "--blueprints", metavar="A,B", callback=_names, help="What may be planted.  [the host's choice]"
)
@click.option("--policy", type=click.Choice(POLICY_NAMES), help="Who decides.  [heuristic]")
@click.option(
    "--incubation", type=click.Choice(INCUBATION_NAMES), help="How a seed learns.  [counterfactual]"
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training split.  [40]")
@click.option("--seed", type=click.IntRange(min=0), help="Of data, weights, order and policy.  [0]")
@click.option("--device", help="Where to train.  [cpu]")
@click.option("--threads", type=click.IntRange(min=1), help="Of torch on the CPU.  [1]")
@click.option("--batch-size", type=click.IntRange(min=2), help="Examples in a step.  [the task's choice]")
@click.option("--lr", type=float, help="AdamW's peak learning rate.  [0.01]")
@click.option("--weight-decay", type=float, help="AdamW's weight decay.  [0.01]")
@click.option("--warmup-epochs", type=click.IntRange(min=0), help="Epochs of linear warm-up.  [2]")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=0),
    metavar="STEPS",
    help="Steps between checkpoints, 0 for one after each epoch.  [0]",
)
@click.option("--keep-checkpoints", type=click.IntRange(min=1), help="Checkpoints that stay.  [2]")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [runs/TASK-SEED-N]")
@click.option(
    "--resume",
    metavar="auto|PATH",
    help="Go on from a checkpoint, or from the newest in --out, if it has any.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def train(
    settings: Settings,
    /,
    config: Path | None,
    out: Path | None,
    resume: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a host and grow it.

    CONFIG is a YAML file of these options' names, such as a run's config.yaml; what stands on the
    command line goes before it. The run's folder holds config.yaml, events.jsonl, environment.json,
    checkpoints/ and report.html.

    A run that was stopped or killed goes on with --resume, and ends as if it had not been. It takes its
    options from its folder; a host that is imported has to be named again.
    """
    from esper.cli.train_view import print_summary, summary_json, watching
    from esper.simic.run import plan_run, run_planned

    given = {name: value for name, value in options.items() if value is not None}
    planned = plan_run(config, given, out, resume)
    start = planned.start
    if start is not None and not settings.quiet:
        state = "is finished" if start.result is not None else f"goes on from step {start.step}"
        click.echo(f"{planned.out} {state}", err=True)
    with watching(planned.config.epochs, settings.quiet, settings.verbose) as (watchers, progress):
        run = run_planned(planned, watchers, progress)
    if as_json:
        click.echo(json.dumps(summary_json(run), indent=2))
    else:
        print_summary(run)
    if run.result.interrupted is not None:
        sys.exit(128 + signal.Signals(run.result.interrupted))
