"""Reproduction folders: what an internal error leaves behind, so that it can be seen again elsewhere.

A folder is made whole under another name and then renamed. It holds the graph or the source, the command
that fails on it, versions and the traceback; nothing of the environment, and secrets in it that turn up in
an error's text are blanked.
"""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import click

import esper
from esper.cli.failure import is_internal

if TYPE_CHECKING:
    from esper.cli.blueprint import Request
    from esper.ir.graph import BlueprintIR

GRAPH = "graph.ir"  # what the command reads
LOWERED = "lowered.ir"  # what the command made of its source before it failed
PACKAGES = ("torch", "triton", "networkx", "lark", "numpy", "pydantic", "click")
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE")
LEAST_SECRET = 4  # shorter values are words that occur anywhere

README = """# Reproduction of an error inside Esper

    {kind}: {reason}

Run in this folder:

    {command}

`traceback.txt` says where it happens, `versions.txt` with which versions. Where a pass is at fault, the same
command with `--reduce` looks for a smaller graph.
"""


@dataclass(slots=True)
class Case:
    """What ran: a command on a request with further arguments, and the graph once there is one."""

    command: str
    request: Request
    arguments: tuple[str, ...]
    graph: BlueprintIR | None = None


@contextmanager
def reproducible(command: str, request: Request, *arguments: str) -> Iterator[Case]:
    """Leaves a folder behind if what it encloses fails by a fault of Esper's own.

    In the folder, `esperc command FILE arguments` fails as it did here; where a pass is at fault, the
    pass alone on the graph that it was given. The folder's path is told on stderr; the error goes on its way.
    """
    case = Case(command, request, arguments)
    try:
        yield case
    except Exception as error:
        if is_internal(error):
            _leave(error, case)
        raise


def _leave(error: Exception, case: Case) -> None:
    # Loaded only where something failed: a command that succeeds may need no pass.
    from esper.passes.errors import PassDefect

    if isinstance(error, PassDefect):
        line = ["esperc", "opt", GRAPH, "--passes", error.details["pipeline"]]
        files = {GRAPH: f"{error.details['given']}\n"}
    else:
        files = _sources(case.request)
        file = Path(case.request.file).name if files else case.request.file
        line = ["esperc", case.command, file, *case.request.arguments(), *case.arguments]
        files |= {} if case.graph is None else {LOWERED: f"{case.graph}\n"}
    try:
        folder = _written(_contents(error, line, files))
    except OSError as failure:
        click.echo(f"no reproduction could be written: {failure.strerror}", err=True)
    else:
        click.echo(f"wrote a reproduction to {folder}", err=True)


def _sources(request: Request) -> dict[str, str]:
    """The file that is named and what it imports, which lies beside it or below; nothing for the library."""
    path = Path(request.file)
    if not path.is_file():
        return {}
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace")}
    if path.suffix == ".esp":
        try:
            from esper.lang.library import load

            sources = load(request.file, request.blueprint).unit.sources
        except Exception:  # noqa: BLE001 - what failed may fail again, and the file itself is there
            return texts
        for name, source in sources.items():
            if Path(name).is_relative_to(path.parent):
                texts[str(Path(name).relative_to(path.parent))] = source.text
    return texts


def _contents(error: Exception, command: Sequence[str], files: Mapping[str, str]) -> dict[str, str]:
    line = shlex.join(command)
    contents = {
        **files,
        "README.md": README.format(kind=type(error).__name__, reason=error, command=line),
        "command.txt": f"{line}\n",
        "traceback.txt": "".join(traceback.format_exception(error)),
        "versions.txt": "".join(f"{name} {found}\n" for name, found in _versions().items()),
    }
    return {name: _blanked(text) for name, text in contents.items()}


def _versions() -> dict[str, str]:
    found = {"esper": esper.__version__, "python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _blanked(text: str) -> str:
    """`text` without the values of environment variables that are named like secrets."""
    for name, value in os.environ.items():
        if len(value) >= LEAST_SECRET and any(word in name.upper() for word in SECRET):
            text = text.replace(value, f"${name}")
    return text


def _written(contents: Mapping[str, str]) -> Path:
    """A folder of its own in the system's folder for temporary files (`TMPDIR`), whole or not there."""
    partial = Path(tempfile.mkdtemp(prefix=".esper-reproduction-"))
    try:
        for name, text in contents.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        folder = partial.with_name(partial.name.removeprefix("."))
        partial.rename(folder)
    finally:
        rmtree(partial, ignore_errors=True)
    return folder
