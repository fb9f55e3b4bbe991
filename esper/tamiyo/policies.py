"""The policies by name, and what each takes. A new policy is an entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from esper.leyline.protocols import TamiyoPolicy
from esper.tamiyo.baselines import (
    NeverTamiyo,
    RandomParameters,
    RandomTamiyo,
    ScheduleParameters,
    ScheduleTamiyo,
)
from esper.tamiyo.errors import InvalidPolicyOption, NoBlueprints, UnknownPolicy
from esper.tamiyo.heuristic import HeuristicParameters, HeuristicTamiyo


@dataclass(frozen=True)
class NoParameters:
    """For a policy without numbers."""


@dataclass(frozen=True)
class PolicyEntry:
    """`build(blueprints, seed, parameters)`, `parameters` being an instance of the named dataclass."""

    doc: str
    parameters: type[Any]
    build: Callable[[Sequence[str], int, Any], TamiyoPolicy]
    plants_seeds: bool = True


POLICIES: dict[str, PolicyEntry] = {
    "heuristic": PolicyEntry(
        "rules: germinate on a plateau, put forward, cull what does not learn",
        HeuristicParameters,
        lambda blueprints, seed, parameters: HeuristicTamiyo(blueprints, parameters),
    ),
    "never": PolicyEntry(
        "the host alone",
        NoParameters,
        lambda blueprints, seed, parameters: NeverTamiyo(),
        plants_seeds=False,
    ),
    "random": PolicyEntry(
        "acts at random",
        RandomParameters,
        lambda blueprints, seed, parameters: RandomTamiyo(blueprints, seed, parameters),
    ),
    "schedule": PolicyEntry(
        "plants at fixed epochs",
        ScheduleParameters,
        lambda blueprints, seed, parameters: ScheduleTamiyo(blueprints, parameters),
    ),
}


def policy_named(name: str, blueprints: Sequence[str], seed: int = 0, **options: object) -> TamiyoPolicy:
    """The policy called `name`, with `options` for its parameters.

    Raises `UnknownPolicy`, `InvalidPolicyOption` for an unknown option or a wrong value, `NoBlueprints`.
    """
    entry = POLICIES.get(name)
    if entry is None:
        raise UnknownPolicy(name=name, choices=", ".join(POLICIES))
    known = [field.name for field in dataclasses.fields(entry.parameters)]
    listed = ", ".join(known) or "none"
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidPolicyOption(policy=name, reason=f"unknown option `{unknown[0]}`", options=listed)
    if entry.plants_seeds and not blueprints:
        raise NoBlueprints(policy=name)
    try:
        parameters = TypeAdapter(entry.parameters).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"`{first['loc'][0]}`: {first['msg'].lower()}"
        raise InvalidPolicyOption(policy=name, reason=reason, options=listed) from error
    return entry.build(blueprints, seed, parameters)
