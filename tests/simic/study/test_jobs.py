"""A study from its first job to its report, on runs of one epoch: whole, resumed, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from esper.simic.study.arms import GROWN, HOST_OF
from esper.simic.study.comparison import Comparison, compare
from esper.simic.study.errors import (
    ArmsMissing,
    StudyDiffers,
    StudyTaken,
    StudyUnreadable,
    TaskWithoutStudy,
)
from esper.simic.study.jobs import FINAL, FIRST_SEED, TUNING, Study, levels, open_study, run_study
from esper.simic.study.plan import QUESTIONS, Question
from esper.simic.study.records import StudyConfig
from esper.simic.study.report import PICTURES, document, markdown, write_report
from esper.simic.study.words import summary


def config_of(question: str) -> StudyConfig:
    return StudyConfig(
        question=question, task="digits", seeds=2, tuning_seeds=1, trials=1, epochs=1, test_examples=50
    )


@pytest.fixture(scope="module", params=QUESTIONS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    opened = open_study(tmp_path_factory.mktemp("study"), config_of(request.param), resume=False)
    run_study(opened)
    return opened


@pytest.fixture(scope="module")
def found(study: Study) -> Comparison:
    return compare(study)


def files(study: Study) -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(study.folder.rglob("*.json"))}


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=list(QUESTIONS))
def test_an_arm_comes_after_those_that_it_builds_on(asked: Question) -> None:
    row = {arm.name: index for index, arms in enumerate(levels(asked)) for arm in arms}
    assert sorted(row) == sorted(arm.name for arm in asked.arms)
    for arm in asked.arms:
        assert all(row[earlier] < row[arm.name] for earlier in arm.builds_on)


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=list(QUESTIONS))
@pytest.mark.parametrize("host", sorted(set(HOST_OF.values())))
def test_every_arm_that_is_compared_has_as_many_trials(asked: Question, host: str) -> None:
    assert {len(arm.trials[host]) for arm in asked.arms if not arm.is_sunk} == {5}


def test_tuning_seeds_are_not_the_figures_seeds(study: Study) -> None:
    assert not set(study.seeds(TUNING)) & set(study.seeds(FINAL))
    assert min(study.seeds(FINAL)) >= FIRST_SEED[FINAL]


def test_every_arm_has_an_outcome_for_every_seed(study: Study) -> None:
    for arm in study.question.arms:
        outcomes = study.finals(arm)
        assert [outcome.seed for outcome in outcomes] == list(study.seeds(FINAL))
        assert all(outcome.arm == arm.name and outcome.total_flops > 0 for outcome in outcomes)


EQUAL_FLOPS = (
    *("equal-flops", "go-on", "lora", "bottleneck", "open-bottleneck", "at-once", "scratch"),
    *("fine-tune", "replay"),
)


def test_budgets_are_those_of_growth(study: Study) -> None:
    grown = study.finals(study.question.arm(GROWN))
    for name in EQUAL_FLOPS:
        if name in [arm.name for arm in study.question.arms]:
            for outcome, growth in zip(study.finals(study.question.arm(name)), grown, strict=True):
                step = outcome.total_flops / outcome.steps
                assert abs(outcome.total_flops - growth.total_flops) <= 0.51 * step or outcome.steps == 1


def test_first_task_is_measured_where_there_are_two(study: Study) -> None:
    for arm in study.question.arms:
        has_two = study.question.name == "second-task" and not arm.is_sunk
        assert all((outcome.first_task is not None) is has_two for outcome in study.finals(arm))


def test_a_frozen_host_forgets_nothing(study: Study) -> None:
    if study.question.name != "second-task":
        pytest.skip("one task")
    before = [outcome.test for outcome in study.finals(study.question.arm("host"))]
    for name in ("lora", "bottleneck", "heuristic"):
        assert [o.first_task for o in study.finals(study.question.arm(name))] == before


def test_a_study_that_is_done_does_nothing_again(study: Study) -> None:
    before = files(study)
    told: list[tuple[str, int, int]] = []
    opened = open_study(study.folder, study.config, resume=True)
    run_study(opened, progress=lambda *figures: told.append(figures))
    assert files(study) == before
    assert told[-1] == (FINAL, told[-1][2], told[-1][2])


def test_a_job_done_again_has_the_same_outcome_but_for_the_time(study: Study) -> None:
    arm = study.question.arms[-1]
    path = study.file(FINAL, arm, 0, study.seeds(FINAL)[1])
    before = json.loads(path.read_text())
    path.unlink()
    with pytest.raises(ArmsMissing) as caught:
        compare(study)
    assert f"`{arm.name}` lacks 1" in str(caught.value)
    run_study(study)
    after = json.loads(path.read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}


def test_report_has_every_arm_and_says_which_claims_hold(found: Comparison, tmp_path: Path) -> None:
    written = write_report(found, tmp_path)
    assert {path.name for path in written} == {"report.json", "report.md", "report.html", *PICTURES}
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == json.loads(json.dumps(document(found)))
    assert [arm["name"] for arm in told["arms"]] == [arm.name for arm in found.study.question.arms]
    for claim in told["claims"]:
        assert claim["holds"] is (claim["difference_points"]["low"] > claim["above_points"])
    text = markdown(found)
    assert all(arm.title in text for arm in found.arms)
    words = summary(found)
    assert sum(line.startswith("Not met") for line in words) >= sum(not c["holds"] for c in told["claims"])
    for name in PICTURES:
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_growth_is_not_compared_with_itself(found: Comparison) -> None:
    assert found.grown.versus is None
    others = [arm for arm in found.arms if not arm.is_grown and not arm.is_sunk]
    assert all(arm.versus is not None for arm in others)


def test_a_folder_with_a_study_is_not_begun_again(study: Study) -> None:
    with pytest.raises(StudyTaken):
        open_study(study.folder, study.config, resume=False)


def test_another_study_does_not_go_on_with_it(study: Study) -> None:
    with pytest.raises(StudyDiffers) as caught:
        open_study(study.folder, study.config.model_copy(update={"epochs": 7}), resume=True)
    assert "epochs" in str(caught.value)


def test_a_study_of_other_code_does_not_go_on(tmp_path: Path) -> None:
    config = config_of("scratch")
    other = config.model_copy(update={"made_by": {**config.made_by, "code": "0"}})
    open_study(tmp_path, other, resume=False)
    with pytest.raises(StudyDiffers, match="made_by"):
        open_study(tmp_path, config, resume=True)


def test_a_job_with_other_settings_is_refused(tmp_path: Path) -> None:
    opened = open_study(tmp_path, config_of("scratch"), resume=False)
    arm = opened.question.arm("small")
    path = opened.file(TUNING, arm, 0, FIRST_SEED[TUNING])
    path.parent.mkdir(parents=True)
    job = next(iter(opened.jobs(TUNING, [arm])))
    outcome = OUTCOME | {"settings": {**job.settings.model_dump(mode="json"), "lr": 0.5}}
    path.write_text(json.dumps(outcome))
    with pytest.raises(StudyDiffers):
        run_study(opened)


OUTCOME = {
    "arm": "small",
    "seed": 1000,
    "test": {"accuracy": 0.5, "loss": 1.0},
    "held_out": {"accuracy": 0.5, "loss": 1.0},
    "parameters": 1,
    "added": 0,
    "steps": 1,
    "flops": {},
    "width": 8,
    "depth": 2,
    "seconds": 0.1,
}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    opened = open_study(tmp_path, config_of("scratch"), resume=False)
    path = opened.file(TUNING, opened.question.arm("small"), 0, FIRST_SEED[TUNING])
    path.parent.mkdir(parents=True)
    path.write_text('{"arm": "small"')
    with pytest.raises(StudyUnreadable) as caught:
        run_study(opened)
    assert str(path) in str(caught.value)


def test_a_question_that_a_task_cannot_answer_is_refused(tmp_path: Path) -> None:
    asked = config_of("second-task").model_copy(update={"task": "text"})
    with pytest.raises(TaskWithoutStudy):
        open_study(tmp_path, asked, resume=False)
