"""`esper study`, as a user's shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from esper.cli import study
from esper.cli.esper import main
from esper.simic.study.arms import HOST_OF
from esper.simic.study.plan import QUESTIONS
from esper.simic.study.records import StudyConfig

TINY = ("--test-examples", "50", "--seeds", "2", "--tuning-seeds", "1", "--trials", "1", "--epochs", "1")


def esper(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["study", *map(str, arguments)])


def test_choices_on_the_command_line_are_the_tables() -> None:
    assert set(study.QUESTION_NAMES) == set(QUESTIONS)
    assert set(study.TASK_NAMES) == set(HOST_OF)


def test_defaults_are_the_configurations() -> None:
    for option in study.study.params:
        field = StudyConfig.model_fields.get(option.name or "")
        if field is not None and not field.is_required():
            assert option.default == field.default
            assert f"[{field.default}]" in (getattr(option, "help", None) or "")


def test_study_side_by_side_prints_one_document_and_goes_on_where_it_was(tmp_path: Path) -> None:
    done = esper("scratch", *TINY, "--out", tmp_path, "--workers", "2", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["schema_version"] == 1
    assert [arm["name"] for arm in told["arms"]] == [arm.name for arm in QUESTIONS["scratch"].arms]
    assert all(arm["accuracy"]["low"] <= arm["accuracy"]["mean"] for arm in told["arms"])
    assert done.stderr == ""
    refused = esper("scratch", *TINY, "--out", tmp_path)
    assert refused.exit_code == 1
    assert "E0940" in refused.stderr
    again = esper("scratch", *TINY, "--out", tmp_path, "--resume", "auto", "--workers", "1", "--json", "-q")
    assert json.loads(again.stdout) == told


def test_question_that_the_task_cannot_answer_is_refused(tmp_path: Path) -> None:
    refused = esper("second-task", "--task", "text", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "E0944" in refused.stderr


def test_help_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("help_study.txt", esper("--help").stdout)
