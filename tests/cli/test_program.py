"""What both programs promise whatever the command: exit codes, how failures are told, light start-up."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.esper import COMMANDS as GROWTH
from esper.cli.esper import main as growth
from esper.cli.esperc import COMMANDS as COMPILER
from esper.cli.esperc import main as compiler
from esper.cli.program import SELDOM, Program

ROOT = Path(__file__).resolve().parents[2]

# Commands as a room would write them, in a module of their own: the program loads them by name.
SAMPLES = '''
import sys, time
import click
from pathlib import Path
from esper.cli.program import detail, note
from esper.errors import EsperError, MissingPackage, Span

class OddKernel(EsperError):
    code = "E9998"
    message = "kernel = {kernel} is even"
    help = "take an odd one"

@click.command()
def told():
    """Says one thing on each channel."""
    click.echo("data"); note("a note"); detail("a detail")

@click.command()
@click.argument("file")
def wrong(file):
    raise OddKernel(kernel=4, span=Span(file, 2, 8, 2, 9))

@click.command()
def lacking():
    raise MissingPackage(package="rich", purpose="`told`", extra="growth")

@click.command()
def absent():
    import a_package_that_nobody_has

@click.command()
def unreadable():
    open("/nonexistent/file")

@click.command()
def broken():
    raise ZeroDivisionError("by nothing")

@click.command()
def collecting():
    import gc
    click.echo(gc.get_threshold()[0])

@click.command()
@click.argument("file")
def waiting(file):
    part = Path(file)
    part.write_text("half")
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        part.unlink()
'''
NAMES = ["told", "wrong", "lacking", "absent", "unreadable", "broken", "collecting", "waiting"]

Invoke = Callable[..., Result]


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sample_commands.py").write_text(SAMPLES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sample_commands", raising=False)
    return tmp_path


@pytest.fixture
def invoke(samples: Path) -> Invoke:
    table = {name: f"sample_commands:{name}" for name in NAMES}

    def run(*arguments: str, is_brief: bool = False) -> Result:
        program = Program("sample", table, "A program for tests.", "sample told", is_brief)
        return CliRunner().invoke(program, list(arguments))

    return run


def test_data_goes_to_stdout_and_notes_to_stderr(invoke: Invoke) -> None:
    result = invoke("told")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "data\n", "a note\n")


def test_quiet_drops_notes_and_verbose_adds_details(invoke: Invoke) -> None:
    assert invoke("told", "--quiet").stderr == ""
    assert invoke("told", "-v").stderr == "a note\na detail\n"


def test_the_collector_runs_seldom_in_a_brief_program_alone(invoke: Invoke) -> None:
    before = gc.get_threshold()
    assert int(invoke("collecting").stdout) == before[0]
    assert int(invoke("collecting", is_brief=True).stdout) == SELDOM > before[0]
    assert gc.get_threshold() == before
    assert compiler.is_brief and not growth.is_brief


def test_an_error_is_told_with_its_place_its_line_and_the_way_out(invoke: Invoke, samples: Path) -> None:
    source = samples / "a.esp"
    source.write_text("input x\nkernel=4\n")
    result = invoke("wrong", str(source))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"{source}:2:8: error[E9998]: kernel = 4 is even\n  kernel=4\n         ^\n  help: take an odd one\n"
    )


def test_an_error_in_a_source_that_is_gone_is_told_without_its_line(invoke: Invoke) -> None:
    assert invoke("wrong", "gone.esp").stderr == (
        "gone.esp:2:8: error[E9998]: kernel = 4 is even\n  help: take an odd one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["lacking"], 3, "esper-toolchain[growth]"),
        (["absent"], 3, "`a_package_that_nobody_has` is not installed"),
        (["unreadable"], 1, "cannot use `/nonexistent/file`: No such file or directory"),
        (["broken"], 1, "ZeroDivisionError: by nothing"),
        (["tolld"], 2, "Did you mean 'told'?"),
        (["told", "--quite"], 2, "--quiet"),
        (["told", "surplus"], 2, "surplus"),
    ],
)
def test_a_failure_has_its_exit_code_and_no_traceback(
    invoke: Invoke, arguments: list[str], code: int, text: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--debug", "broken"], ["broken", "--debug"]])
def test_debug_lets_the_traceback_through(invoke: Invoke, arguments: list[str]) -> None:
    assert isinstance(invoke(*arguments).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_unwinds_the_command_and_has_its_exit_code(
    samples: Path, number: signal.Signals, code: int
) -> None:
    part = samples / "part"
    program = (
        "from esper.cli.program import Program\n"
        "Program('sample', {'waiting': 'sample_commands:waiting'}, help='.', example='.')()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "waiting", str(part)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(samples)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert not part.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_offered(invoke: Invoke, shell: str) -> None:
    result = invoke("--completion", shell)
    assert result.exit_code == 0
    assert "_SAMPLE_COMPLETE" in result.stdout


PROGRAMS = {"esperc": COMPILER, "esper": GROWTH}
COMMANDS = [(program, command) for program, table in PROGRAMS.items() for command in table]

STARTS_LIGHT = """
import json, sys
from importlib import import_module
from click.testing import CliRunner
program = import_module(f"esper.cli.{sys.argv[1]}").main
helps = {name: CliRunner().invoke(program, [name, "--help"]).stdout for name in program.table}
helps[""] = CliRunner().invoke(program, ["--help"]).stdout
assert not {"torch", "triton"} & set(sys.modules)
print(json.dumps(helps))
"""


@pytest.fixture(scope="module", params=PROGRAMS)
def helps(request: pytest.FixtureRequest) -> dict[str, str]:
    """Every help text of a program, asked for in a process of its own that must not load torch or triton."""
    command = [sys.executable, "-c", STARTS_LIGHT, request.param]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    texts: dict[str, str] = json.loads(done.stdout)
    return texts


def test_help_on_every_level_has_an_example_and_loads_neither_torch_nor_triton(helps: dict[str, str]) -> None:
    for name, text in helps.items():
        assert "Example" in text, name


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_command_in_a_table_exists(program: str, command: str) -> None:
    module, _, name = PROGRAMS[program][command].partition(":")
    assert getattr(import_module(module), name).callback is not None


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_paths_are_checked_by_what_reads_them(program: str, command: str) -> None:
    """A missing file is the input's fault (1), not wrong usage (2)."""
    main = import_module(f"esper.cli.{program}").main
    for parameter in main.get_command(None, command).params:
        assert not getattr(parameter.type, "exists", False), parameter.name
