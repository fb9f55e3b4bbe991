"""The floor both programs stand on: exit codes, how failures are told, and commands loaded when named.

A program is a table of names. A command's module is imported when the command runs or its help is shown,
and imports what is heavy inside its function, so that `--help` loads neither torch nor triton.
"""

from __future__ import annotations

import copy
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

import esper
from esper.cli.failure import failure_of

SELDOM = 50_000
"""So many more objects than were freed are made before the youngest are looked through; Python's 700 is for
programs that run on."""
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


@dataclass(slots=True)
class Settings:
    """What the options that every command takes were set to, for one run of a program."""

    debug: bool = False
    quiet: bool = False
    verbose: bool = False


def note(text: str) -> None:
    """Tells something on stderr that is not data, unless `--quiet`."""
    if not _settings().quiet:
        click.echo(text, err=True)


def detail(text: str) -> None:
    """Tells on stderr what only `-v` asks for."""
    if _settings().verbose:
        click.echo(text, err=True)


class Program(click.Group):
    """A group of commands given as a table: name -> "module:command".

    is_brief: what its commands make mostly lives until they end, so the collector of cycles, which would walk
    it again and again, runs seldom.

    Exit codes: 0 done; 1 the input is at fault, or a check failed; 2 wrong usage; 3 a device, tool or
    package is missing; 130 and 143 after SIGINT and SIGTERM. A command raises `EsperError` for the first
    and the fourth, and prints data on stdout alone. Paths are checked by what reads them, not by click,
    whose own check would call a missing file wrong usage.
    """

    def __init__(
        self, name: str, table: Mapping[str, str], help: str, example: str, is_brief: bool = False
    ) -> None:
        colour = False if os.environ.get("NO_COLOR") else None
        super().__init__(
            name,
            help=help,
            epilog=f"\b\nExample:\n  {example}",
            context_settings={"help_option_names": ["-h", "--help"], "color": colour},
            params=[_debug_option(), _version_option(name), _completion_option(name)],
        )
        self.table = dict(table)
        self.is_brief = is_brief
        self._loaded: dict[str, click.Command] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self.table.get(cmd_name)
        if place is None:
            return None
        if cmd_name not in self._loaded:
            module, _, attribute = place.partition(":")
            self._loaded[cmd_name] = with_shared_options(getattr(import_module(module), attribute), cmd_name)
        return self._loaded[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.table, ctx=ctx) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs the program and leaves with its exit code."""
        settings = Settings()
        with _termination_as_exit(), _seldom_collected() if self.is_brief else nullcontext():
            try:
                code = super().main(
                    args,
                    prog_name or self.name,
                    complete_var,
                    standalone_mode=False,
                    windows_expand_args=windows_expand_args,
                    obj=settings,
                    **extra,
                )
            except click.ClickException as error:
                error.show()
                sys.exit(error.exit_code)
            except click.Abort:
                click.echo("interrupted", err=True)
                sys.exit(INTERRUPTED)
            except Exception as error:
                if settings.debug:
                    raise
                failure = failure_of(error)
                click.echo(failure.text, err=True)
                sys.exit(failure.exit_code)
        # Outside standalone mode click returns the code of `Context.exit`, else the command's result.
        sys.exit(code if isinstance(code, int) else 0)


def _settings() -> Settings:
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_object(Settings)
    return found or Settings()


@contextmanager
def _termination_as_exit() -> Iterator[None]:
    """While entered, SIGTERM unwinds the stack like an exit, so that nothing half-written stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    previous = gc.get_threshold()
    gc.set_threshold(SELDOM, *previous[1:])
    try:
        yield
    finally:
        gc.set_threshold(*previous)


def with_shared_options(command: click.Command, name: str) -> click.Command:
    """A copy of `command` that also takes the shared options it does not declare itself."""
    taken = {flag for param in command.params for flag in param.opts}
    added = [option for option in _shared_options() if taken.isdisjoint(option.opts)]
    completed = copy.copy(command)
    completed.name = name
    completed.params = [*command.params, *added]
    completed.context_settings = {"help_option_names": ["-h", "--help"], **command.context_settings}
    return completed


def _shared_options() -> list[click.Option]:
    return [
        _setting(["-q", "--quiet"], "quiet", "No notes or progress on stderr."),
        _setting(["-v", "--verbose"], "verbose", "More notes on stderr."),
        _debug_option(),
    ]


def _debug_option() -> click.Option:
    return _setting(["--debug"], "debug", "Show a traceback on failure.")


def _setting(flags: list[str], name: str, help: str) -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        settings = ctx.find_object(Settings)
        if value and settings is not None:
            setattr(settings, name, True)

    return click.Option(
        [*flags, name], is_flag=True, is_eager=True, expose_value=False, callback=remember, help=help
    )


def _version_option(program: str) -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            click.echo(f"{program} {esper.__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version.",
    )


def _completion_option(program: str) -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        kind = None if value is None else get_completion_class(value)
        if kind is not None:
            click.echo(kind(ctx.command, {}, program, f"_{program.upper()}_COMPLETE").source())
            ctx.exit()

    return click.Option(
        ["--completion"],
        type=click.Choice(["bash", "zsh", "fish"]),
        is_eager=True,
        expose_value=False,
        callback=show,
        help=f'Print the completion script of a shell, as in: eval "$({program} --completion bash)"',
    )
