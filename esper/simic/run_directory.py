"""A run's folder: where it lies, and what is written into it before the first step."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from esper.nissa.stream import FILE_NAME
from esper.simic.config import TrainConfig, config_text
from esper.simic.errors import RunDirectoryTaken, RunDirectoryUnwritable

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
PACKAGES = ("esper-toolchain", "torch", "triton", "numpy")


@dataclass(frozen=True)
class RunDirectory:
    """The folder of one run, and the run's id."""

    path: Path
    run_id: str
    is_made: bool
    """Whether the folder was made for this run."""

    @property
    def events(self) -> Path:
        return self.path / FILE_NAME

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def discard(self) -> None:
        """Takes back what was written for the run, and the folder if it was made for it."""
        for path in (self.events, self.path / CONFIG, self.path / ENVIRONMENT):
            path.unlink(missing_ok=True)
        if self.is_made:
            self.path.rmdir()


def create_run_directory(config: TrainConfig, out: Path | None) -> RunDirectory:
    """Makes the folder, `out` or a free runs/TASK-SEED-N, and writes config.yaml and environment.json.

    Raises `RunDirectoryTaken` if there is a run in `out`, `RunDirectoryUnwritable`.
    """
    path = _free_directory(config) if out is None else out
    if (path / FILE_NAME).exists():
        raise RunDirectoryTaken(path=path)
    run = RunDirectory(path, secrets.token_hex(6), is_made=not path.exists())
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / CONFIG).write_text(config_text(config), encoding="utf-8")
        facts = json.dumps(_environment(run, config), indent=2)
        (path / ENVIRONMENT).write_text(facts + "\n", encoding="utf-8")
    except OSError as error:
        raise RunDirectoryUnwritable(path=path, reason=error.strerror) from error
    return run


def environment_of(run: Path) -> dict[str, str]:
    """The facts of environment.json that a report states; empty where the file is missing or damaged."""
    try:
        content = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    packages = content.get("packages")
    facts = {name: str(version) for name, version in packages.items()} if isinstance(packages, dict) else {}
    for name in ("python", "platform", "cores", "device"):
        if name in content:
            facts[name] = str(content[name])
    return facts


def _free_directory(config: TrainConfig) -> Path:
    number = 1
    while (path := Path("runs") / f"{config.task}-{config.seed}-{number}").exists():
        number += 1
    return path


def _environment(run: RunDirectory, config: TrainConfig) -> dict[str, object]:
    return {
        "schema_version": 1,
        "run_id": run.run_id,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": config.device,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "arguments": sys.argv[1:],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
