"""`esperc search --requirements`: what a file asks for, as the options that would ask for the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from esper.cli.blueprint import Request
from esper.errors import MissingPackage
from esper.lang import SizeValue, fit, parse_settings
from esper.lang.errors import DoesNotFit, FileUnreadable
from esper.lang.settings import PRECISIONS
from esper.tezzeret.errors import InvalidRequirements
from esper.tezzeret.requirements import Requirements, parse_requirements


def read_requirements(path: Path) -> Requirements:
    """The requirements in a YAML or JSON file.

    Raises `FileUnreadable`, `InvalidRequirements`, `UnknownTarget`, and `MissingPackage` without PyYAML.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        purpose = "`esperc search --requirements`"
        raise MissingPackage(package="pyyaml", purpose=purpose, extra="growth") from error
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FileUnreadable(path=path, reason=reason) from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise InvalidRequirements(problems=f"`{path}`{line}: {problem or 'it is no YAML'}") from error
    return parse_requirements(given)


def as_request(asked: Requirements, request: Request) -> Request:
    """`request` with the parameters, sizes and precision with which the blueprint takes what is asked for.

    Raises `UsageError` where options settle these already, and `DoesNotFit`.
    """
    for option, is_given in (("--size", bool(request.sizes)), ("--precision", bool(request.precision))):
        if is_given:
            raise click.UsageError(f"{option} is settled by --requirements: leave one of them out")
    settled = parse_settings(request.signature, request.settings)
    shape, dtype = asked.input_shape, asked.element_type
    if asked.output_shape != shape:
        title = request.signature.name
        reason = (
            f"its output is to be {[*asked.output_shape]}, and searches are for blocks that keep the shape"
        )
        raise DoesNotFit(blueprint=title, found=f"{dtype}{[*shape]}", reason=reason)
    params, sizes = fit(request.file, shape, dtype, name=request.blueprint, params=settled)
    return replace(
        request,
        settings=(*request.settings, *(f"{name}={value}" for name, value in params.items())),
        sizes=_texts(sizes),
        precision=dtype.value if dtype.value in PRECISIONS and dtype.value != "f32" else None,
    )


def _texts(sizes: Mapping[str, SizeValue]) -> tuple[str, ...]:
    return tuple(
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in sizes.items()
    )
