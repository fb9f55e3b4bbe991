"""`esper study`: the arms of a fair comparison, and one report."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esper.cli.program import Settings

QUESTION_NAMES = ("scratch", "trained", "second-task")
TASK_NAMES = ("mnist1d", "digits", "text")


@click.command(
    epilog="""\b
Examples:
  esper study scratch --task mnist1d --seeds 20 --out runs/study-scratch
  esper study scratch --task mnist1d --seeds 20 --out runs/study-scratch --resume auto
  esper study second-task --seeds 20 --out runs/study-second --json
"""
)
@click.argument("question", type=click.Choice(QUESTION_NAMES))
@click.option("--task", type=click.Choice(TASK_NAMES), default="mnist1d", help="What to learn.  [mnist1d]")
@click.option("--seeds", type=click.IntRange(min=2), default=20, help="Paired seeds.  [20]")
@click.option(
    "--tuning-seeds", type=click.IntRange(min=1), default=3, help="Others, to choose settings on.  [3]"
)
@click.option("--trials", type=click.IntRange(1, 5), default=5, help="Settings tried for each arm.  [5]")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=40, help="Passes over the training split.  [40]"
)
@click.option(
    "--test-examples",
    type=click.IntRange(min=1),
    default=5000,
    help="Fresh draws to test on, where the task is generated.  [5000]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The study's folder.  [runs/study-QUESTION-TASK]"
)
@click.option("--resume", type=click.Choice(["auto"]), help="Go on with what is in the folder.")
@click.option("--workers", type=click.IntRange(min=1), default=2, help="Processes side by side.  [2]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def study(
    settings: Settings,
    /,
    question: str,
    task: str,
    seeds: int,
    tuning_seeds: int,
    trials: int,
    epochs: int,
    test_examples: int,
    out: Path | None,
    resume: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Compare growing with the other ways to spend the same training.

    \b
    scratch      the small host, its final size, the grown topology, schedules
    trained      a trained host that became too small: train on, adapters, growth
    second-task  a second task after a first: fine-tuning, adapters, growth

    Each arm has the same number of trials, chosen by validation data alone; then each runs on the same
    seeds. The report is report.md, report.html and report.json in the folder. Every finished run is a file,
    so a study that was stopped goes on with --resume auto.
    """
    from esper.cli.study_view import watching
    from esper.simic.study.comparison import compare
    from esper.simic.study.jobs import open_study, run_study
    from esper.simic.study.records import StudyConfig
    from esper.simic.study.report import document, markdown, write_report

    config = StudyConfig(
        question=question,
        task=task,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        trials=trials,
        epochs=epochs,
        test_examples=test_examples,
    )
    folder = out or Path("runs") / f"study-{question}-{task}"
    opened = open_study(folder, config, resume=resume is not None)
    with watching(settings.quiet) as progress:
        run_study(opened, workers, progress)
    found = compare(opened)
    write_report(found, folder)
    click.echo(json.dumps(document(found), indent=2) if as_json else markdown(found))
