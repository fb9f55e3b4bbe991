"""A run's folder: where it lies, and what is written into it before the first step, and before it goes on."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from esper.files import FileUnwritable, write_whole
from esper.nissa.stream import FILE_NAME
from esper.simic.checkpoints import newest_checkpoint
from esper.simic.config import TrainConfig, config_text
from esper.simic.errors import (
    NoRunToResume,
    RunDirectoryForeign,
    RunDirectoryTaken,
    RunDirectoryUnwritable,
)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
REPORT = "report.html"
PACKAGES = ("esper-toolchain", "torch", "triton", "numpy")


@dataclass(frozen=True)
class RunDirectory:
    """The folder of one run, and the run's id."""

    path: Path
    run_id: str
    is_made: bool
    """Whether the folder was made for this run."""
    replaced: Mapping[str, bytes] = field(default_factory=dict)
    """What the files that the run wrote over held: those of a run that ended before its first event."""

    @property
    def events(self) -> Path:
        return self.path / FILE_NAME

    @property
    def report(self) -> Path:
        return self.path / REPORT

    def discard(self) -> None:
        """Takes back what was written for the run, and the folder if it was made for it.

        Raises FileUnwritable where a file that was there before cannot be put back.
        """
        self.events.unlink(missing_ok=True)
        for name in (CONFIG, ENVIRONMENT):
            if name in self.replaced:
                write_whole(self.path / name, self.replaced[name])
            else:
                (self.path / name).unlink(missing_ok=True)
        if self.is_made:
            self.path.rmdir()


def create_run_directory(config: TrainConfig, out: Path | None) -> RunDirectory:
    """Makes the folder, `out` or a free runs/TASK-SEED-N, and writes environment.json and config.yaml.

    Raises `RunDirectoryTaken` if there is a run in `out`, `RunDirectoryForeign` if it holds files of these
    names that no run wrote, `RunDirectoryUnwritable`.
    """
    path = _free_directory(config) if out is None else out
    if (path / FILE_NAME).exists() or newest_checkpoint(path) is not None:
        raise RunDirectoryTaken(path=path)
    check_own(path)
    run = RunDirectory(path, secrets.token_hex(6), is_made=not path.exists(), replaced=_contents(path))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryUnwritable(path=path, reason=error.strerror) from error
    # The environment first: what a run that is killed in between leaves, `check_own` knows as a run's.
    _write(run.path, ENVIRONMENT, _json(_environment(run, config)))
    _write(run.path, CONFIG, config_text(config))
    return run


def check_own(path: Path) -> None:
    """Raises `RunDirectoryForeign` unless the files in `path` with a run's names are a run's.

    A run's folder is known by the run's id in environment.json.
    """
    if isinstance(_facts(path).get("run_id"), str):
        return
    for name in (CONFIG, ENVIRONMENT, REPORT):
        if os.path.lexists(path / name):
            raise RunDirectoryForeign(path=path, name=name)


def reopened_run_directory(path: Path, checkpoint: Path, step: int) -> RunDirectory:
    """The folder of a run that goes on from `checkpoint`; environment.json says so. The stream does not.

    Raises `NoRunToResume`, `RunDirectoryUnwritable`.
    """
    facts = _facts(path)
    run_id = facts.get("run_id")
    if not isinstance(run_id, str):
        raise NoRunToResume(path=checkpoint, reason=f"{path / ENVIRONMENT} names no run")
    resumed = facts.setdefault("resumed", [])
    if isinstance(resumed, list):
        resumed.append({"time": _now(), "checkpoint": checkpoint.name, "step": step, "packages": _packages()})
    _write(path, ENVIRONMENT, _json(facts))
    return RunDirectory(path, run_id, is_made=False)


def environment_of(run: Path) -> dict[str, str]:
    """The facts of environment.json that a report states; empty where the file is missing or damaged."""
    content = _facts(run)
    packages = content.get("packages")
    facts = {name: str(version) for name, version in packages.items()} if isinstance(packages, dict) else {}
    for name in ("python", "platform", "cores", "device"):
        if name in content:
            facts[name] = str(content[name])
    return facts


def _contents(path: Path) -> dict[str, bytes]:
    contents = {}
    for name in (CONFIG, ENVIRONMENT):
        with suppress(FileNotFoundError, NotADirectoryError):
            contents[name] = (path / name).read_bytes()
    return contents


def _free_directory(config: TrainConfig) -> Path:
    number = 1
    while (path := Path("runs") / f"{config.task}-{config.seed}-{number}").exists():
        number += 1
    return path


def _environment(run: RunDirectory, config: TrainConfig) -> dict[str, object]:
    return {
        "schema_version": 1,
        "run_id": run.run_id,
        "started": _now(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": config.device,
        "packages": _packages(),
        "arguments": sys.argv[1:],
    }


def _facts(run: Path) -> dict[str, object]:
    try:
        content = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(run: Path, name: str, text: str) -> None:
    try:
        write_whole(run / name, text)
    except FileUnwritable as error:
        raise RunDirectoryUnwritable(path=run, reason=error.details["reason"]) from error


def _json(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _packages() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := _version(name)) is not None}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
