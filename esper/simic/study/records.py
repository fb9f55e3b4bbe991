"""What a study's files hold: the settings of a trial, the outcome of a job."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import esper
from esper.files import stamp, write_whole
from esper.simic.study.errors import StudyUnreadable


class Settings(BaseModel):
    """What is tuned: one trial of an arm. What an arm has no use for keeps its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(gt=0, description="AdamW's peak learning rate")
    depth: int | None = Field(default=None, description="blocks of the host, where its size is matched")
    policy: dict[str, Any] = Field(default_factory=dict, description="the policy's own parameters")
    blueprints: tuple[str, ...] = Field(
        default=(), description="what may be planted; the host's own choice if empty"
    )
    gates: dict[str, float] = Field(default_factory=dict, description="bounds of the gates that differ")
    blend_steps: int = Field(default=100, ge=1, description="optimizer steps over which a seed is blended in")


class Score(BaseModel):
    """Mean loss in nats, and accuracy in 0..1, over a split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float
    loss: float


class SeedOutcome(BaseModel):
    """One seed of a run, and how it ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slot: str
    blueprint: str
    params: int
    stage: str
    planted_at: int
    """The growth step, an epoch of the task."""
    gain: float | None = None
    """Relative to its control's held-out loss, where the last gate measured it."""
    gradient_ratio: float | None = None
    """The seed's gradient over the host's at its last measurement in TRAINING: near 0, it starved."""


class Outcome(BaseModel):
    """What one arm did with one seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    arm: str
    seed: int
    settings: Settings
    test: Score
    held_out: Score
    first_task: Score | None = None
    """On the first task's test split after the second was learned."""
    parameters: int
    """Of the network at the end."""
    added: int
    """Of them, those that the host did not have."""
    steps: int
    flops: dict[str, int]
    """Operations by purpose, of every pass of this run; what came before it is sunk cost."""
    width: int
    depth: int
    seeds: tuple[SeedOutcome, ...] = ()
    seconds: float

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())


def made_by() -> dict[str, str]:
    """What outcomes depend on beside the study's own settings: versions, and Esper's code as it stands."""
    package = Path(esper.__file__).parent
    code = stamp([package, Path(str(files("esper.blueprints")))], (".py", ".esp"))
    return {"esper": esper.__version__, "code": code[:16], "torch": torch.__version__}


class StudyConfig(BaseModel):
    """Which study a folder holds. Outcomes of different code or of another torch are not of one study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 2
    question: str
    task: str
    seeds: int = Field(default=20, ge=2, description="paired seeds that the figures rest on")
    tuning_seeds: int = Field(default=3, ge=1, description="seeds on which each arm's settings are chosen")
    trials: int = Field(default=5, ge=1, le=5, description="settings tried for each arm")
    epochs: int = Field(default=40, ge=1, description="passes over the training split")
    test_examples: int = Field(
        default=5000, ge=1, description="fresh draws to test on, where the task is generated"
    )
    made_by: dict[str, str] = Field(default_factory=made_by, description="versions, and a digest of the code")


Record = TypeVar("Record", bound=BaseModel)


def read_record(path: Path, kind: type[Record]) -> Record:
    """Raises `StudyUnreadable`."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StudyUnreadable(path=path, reason=getattr(error, "strerror", None) or error) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise StudyUnreadable(path=path, reason=f"{place}: {first['msg'].lower()}") from error


def write_record(path: Path, record: BaseModel) -> None:
    """Whole or not at all. Raises `FileUnwritable`."""
    write_whole(path, record.model_dump_json(indent=2) + "\n")
