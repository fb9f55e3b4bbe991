"""The study of whether growing pays, and its report in benchmarks/results.

Does what `esper study` does, goes on where that was stopped, and writes study_QUESTION_TASK.md with its
pictures and figures. docs/study.md tells what is compared, and how.

    python benchmarks/study.py scratch --seeds 20 --out runs/study-scratch
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import torch

from esper.simic.study.comparison import Comparison, compare
from esper.simic.study.figures import standalone
from esper.simic.study.jobs import FINAL, TUNING, open_study, run_study
from esper.simic.study.plan import QUESTIONS
from esper.simic.study.records import StudyConfig
from esper.simic.study.report import PICTURES, document, markdown

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("--task", default="mnist1d")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, required=True, help="the study's folder, which --out of `esper study` is"
    )
    given = parser.parse_args()
    config = StudyConfig(question=given.question, task=given.task, seeds=given.seeds)
    study = open_study(given.out, config, resume=True)
    run_study(
        study, given.workers, lambda phase, done, all: print(f"{phase}: {done} of {all}", file=sys.stderr)
    )
    found = compare(study)
    name = f"study_{given.question.replace('-', '_')}_{given.task}"
    text = markdown(found)
    for picture, draw in PICTURES.items():
        text = text.replace(f"({picture})", f"({name}_{picture})")
        (RESULTS / f"{name}_{picture}").write_text(standalone(draw(found.arms)), encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text + facts(found), encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(document(found), indent=2) + "\n", encoding="utf-8")


def facts(found: Comparison) -> str:
    """The command, the machine, and what the runs took."""
    study, config = found.study, found.study.config
    tuning = [
        outcome
        for arm in study.question.arms
        for trial in range(len(study.trials(arm)))
        for outcome in study.outcomes(TUNING, arm, trial)
    ]
    final = [outcome for arm in study.question.arms for outcome in study.finals(arm)]
    spent = sum(outcome.total_flops for outcome in tuning + final)
    first, last = study.seeds(FINAL)[0], study.seeds(FINAL)[-1]
    return (
        f"\n`python benchmarks/study.py {config.question} --task {config.task} --seeds {config.seeds}`: "
        f"{len(tuning)} runs on {config.tuning_seeds} tuning seeds, {len(final)} on seeds {first} to {last}, "
        f"{config.epochs} epochs, {spent / 1e12:.1f} TFLOP in all; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, one thread a run.\n"
    )


if __name__ == "__main__":
    main()
