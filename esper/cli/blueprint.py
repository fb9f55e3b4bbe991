"""Options that say which blueprint is meant and with which values, shared by the commands that lower one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.lang import Bound, Signature, SizeValue
    from esper.lang.ast import Blueprint
    from esper.lang.library import Loaded

PRECISIONS = ("f32", "bf16", "f16")


@dataclass(frozen=True)
class Request:
    """A blueprint as named on the command line: a file or a library name, and the options' texts.

    The file is read once, when it is first asked for.
    """

    file: str
    blueprint: str | None
    settings: tuple[str, ...]
    sizes: tuple[str, ...]
    precision: str | None

    @cached_property
    def _loaded(self) -> Loaded:
        from esper.lang.library import load

        return load(self.file, self.blueprint)

    @cached_property
    def signature(self) -> Signature:
        """The blueprint's documentation and parameters. Raises as `lower` does."""
        from esper.lang.parameters import signature_of

        return signature_of(self._loaded.blueprint)

    @property
    def tree(self) -> Blueprint:
        """The blueprint as parsed. Raises as `lower` does for what is no blueprint."""
        return self._loaded.blueprint

    def lower(self) -> BlueprintIR:
        """The graph. Raises what `esper.lower` raises."""
        return self.lower_bounded()[0]

    def lower_bounded(self) -> tuple[BlueprintIR, tuple[Bound, ...]]:
        """The graph, and the constraints that the blueprint states. Raises what `esper.lower` raises."""
        from esper import lang

        values = lang.parse_settings(self.signature, self.settings)
        return lang.lower_loaded(self._loaded, values, self.size_values(), self.precision)

    def check_values(self) -> None:
        """Raises what `lower` raises for a parameter or a size that is no such, before any is put in."""
        from esper import lang

        lang.parse_settings(self.signature, self.settings)
        self.size_values()

    def size_values(self) -> dict[str, SizeValue]:
        """What `--size` gave."""
        from esper import lang

        return lang.parse_size_settings(self.sizes)

    def source(self) -> str:
        """The text of the blueprint's file."""
        return self._loaded.source.text

    @property
    def stands_alone(self) -> bool:
        """Whether the blueprint's file imports no other."""
        return len(self._loaded.unit.sources) == 1

    def require_other(self, output: Path) -> None:
        """Raises `OverwritesSource` if `output` is the file that the blueprint, or its graph, stands in."""
        given = Path(self.file)
        source = given if given.exists() else Path(self._loaded.source.file)
        if output.exists() and source.exists() and output.samefile(source):
            from esper.tezzeret.errors import OverwritesSource

            raise OverwritesSource(path=output)

    def arguments(self) -> list[str]:
        """The options as they are written on the command line."""
        given = [("--blueprint", self.blueprint), ("--precision", self.precision)]
        given += [("--set", setting) for setting in self.settings] + [("--size", size) for size in self.sizes]
        return [word for option, value in given if value is not None for word in (option, value)]

    def options(self) -> dict[str, str]:
        """What the blueprint was lowered with, for an artifact's manifest."""
        given = dict(setting.split("=", 1) for setting in self.settings)
        found = {f"set.{name.strip()}": value.strip() for name, value in given.items()}
        return found | ({"precision": self.precision} if self.precision else {})


def blueprint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--blueprint --set --size --precision`, and a `Request` in place of the four and FILE."""

    def with_request(
        file: str,
        blueprint: str | None,
        settings: tuple[str, ...],
        sizes: tuple[str, ...],
        precision: str | None,
        **rest: Any,
    ) -> Any:
        return command(Request(file, blueprint, settings, sizes, precision), **rest)

    with_request.__doc__ = command.__doc__
    with_request.__name__ = command.__name__
    with_request.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    for option in (
        click.option("--precision", type=click.Choice(PRECISIONS), help="In place of the source's f32."),
        click.option(
            "--size", "sizes", metavar="NAME=V", multiple=True, help="A size symbol: N=64 or S=28,28."
        ),
        click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A parameter's value."),
        click.option("--blueprint", metavar="NAME", help="Which of the file's several blueprints."),
        click.argument("file"),
    ):
        with_request = option(with_request)
    return with_request


def is_artifact(file: str) -> bool:
    """Whether FILE is a compiled seed and no source."""
    return Path(file).suffix == ".seed"
