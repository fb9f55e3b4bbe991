"""A study's report: report.json, report.md and report.html, and the pictures as files of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from esper.files import write_whole
from esper.nissa.page import page, section
from esper.simic.study.comparison import ArmFigures, Comparison
from esper.simic.study.figures import accuracy_over_flops, accuracy_over_parameters, standalone
from esper.simic.study.words import percents, points, summary

SCHEMA_VERSION = 1
PICTURES = {"accuracy_flops.svg": accuracy_over_flops, "accuracy_parameters.svg": accuracy_over_parameters}
LONGEST_LINE = 40
"""Characters of a cell of the page that is not wrapped."""
COLUMNS = (
    "arm",
    "test accuracy",
    "growth minus it, points",
    "p (Holm)",
    "parameters",
    "GFLOP",
    "steps",
    "seconds",
)


def write_report(found: Comparison, folder: Path) -> list[Path]:
    """Writes every file of the report into `folder`, and returns them. Raises `FileUnwritable`."""
    files = {
        "report.json": json.dumps(document(found), indent=2) + "\n",
        "report.md": markdown(found),
        "report.html": html(found),
        **{name: standalone(draw(found.arms)) for name, draw in PICTURES.items()},
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def document(found: Comparison) -> dict[str, Any]:
    """All figures, as JSON holds them."""
    config = found.study.config
    return {
        "schema_version": SCHEMA_VERSION,
        "question": config.question,
        "task": config.task,
        "seeds": config.seeds,
        "tuning_seeds": config.tuning_seeds,
        "trials": config.trials,
        "epochs": config.epochs,
        "grown": found.grown.name,
        "arms": [{**asdict(arm), "settings": arm.settings.model_dump()} for arm in found.arms],
        "claims": [
            {
                "rival": verdict.claim.rival,
                "above_points": verdict.claim.above,
                "difference_points": asdict(verdict.difference),
                "p": verdict.p,
                "p_holm": verdict.p_holm,
                "holds": verdict.holds,
            }
            for verdict in found.verdicts
        ],
        "forgotten_points": None if found.forgotten is None else asdict(found.forgotten),
        "summary": summary(found),
    }


def markdown(found: Comparison) -> str:
    """The report as Markdown, its pictures beside it."""
    columns = _columns(found)
    lines = [
        f"# `esper study {found.study.config.question}` on {found.study.config.task}",
        "",
        *(line for paragraph in summary(found) for line in (paragraph, "")),
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---' for _ in columns)} |",
        *(f"| {' | '.join(_cells(arm, found))} |" for arm in found.arms),
        "",
        *(f"![{name.removesuffix('.svg').replace('_', ' over ')}]({name})\n" for name in PICTURES),
        "## How each arm was tuned",
        "",
        f"Mean held-out accuracy of each arm's {len(found.grown.validation)} trials over "
        f"{found.study.config.tuning_seeds} tuning seeds; the first of the best was taken.",
        "",
        "| arm | trials | chosen |",
        "| --- | --- | --- |",
        *(f"| {arm.title} | {_trials(arm)} | {_settings(arm)} |" for arm in found.arms),
        "",
    ]
    return "\n".join(lines)


def html(found: Comparison) -> str:
    """The report as one page."""
    config = found.study.config
    columns = _columns(found)
    sections = [
        section("What was found", *(f"<p>{escape(paragraph)}</p>" for paragraph in summary(found))),
        section("The arms", _table(columns, [_cells(arm, found) for arm in found.arms]), note=_note(found)),
        section("Accuracy over operations", accuracy_over_flops(found.arms)),
        section("Accuracy over parameters", accuracy_over_parameters(found.arms)),
        section(
            "How each arm was tuned",
            _table(
                ("arm", "held-out accuracy of each trial", "chosen"),
                [[arm.title, _trials(arm), _settings(arm)] for arm in found.arms],
            ),
        ),
    ]
    subtitle = f"{config.seeds} paired seeds, {config.epochs} epochs, {config.tuning_seeds} tuning seeds"
    title = f"esper study {config.question}: {config.task}"
    return page(title, subtitle, sections, "<p>How to read it: docs/study.md.</p>")


def _note(found: Comparison) -> str:
    return (
        "Means over seeds with 95 % intervals. Differences are of growth, the arm in the other colour, seed "
        f"by seed. {found.study.question.title}"
    )


def _columns(found: Comparison) -> tuple[str, ...]:
    return COLUMNS if found.forgotten is None else (*COLUMNS, "first task afterwards")


def _cells(arm: ArmFigures, found: Comparison) -> list[str]:
    versus = arm.versus
    cells = [
        f"{arm.title} (growth)" if arm.is_grown else arm.title,
        percents(arm.accuracy),
        "" if versus is None else points(versus.test.difference.in_points).replace(" points", ""),
        "" if versus is None else f"{versus.p_holm:.2g}",
        f"{arm.parameters.mean:,.0f}",
        f"{arm.flops.mean / 1e9:.2f}",
        f"{arm.steps:,.0f}",
        f"{arm.seconds:.1f}",
    ]
    if found.forgotten is not None:
        cells.append("" if arm.first_task is None else percents(arm.first_task))
    return cells


def _trials(arm: ArmFigures) -> str:
    return ", ".join(f"{100 * accuracy:.1f}" for accuracy in arm.validation)


def _settings(arm: ArmFigures) -> str:
    """The settings chosen, as far as they are not the defaults."""
    chosen = arm.settings.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {_value(value)}" for name, value in chosen.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_value(entry)}" for name, entry in value.items()) + ")"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(str, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(content: str) -> str:
    is_long = len(content) > LONGEST_LINE
    start = '<td class="wrap">' if is_long else "<td>"
    return f"{start}{escape(content)}</td>"
