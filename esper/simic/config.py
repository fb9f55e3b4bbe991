"""What a run is asked to do: options with defaults, from a YAML file and the command line, all checked.

`resolve` fills in what depends on the host and the length of the run, so that the config.yaml of a run
says everything, and giving it back to `esper train` asks for the same run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esper.errors import MissingPackage
from esper.simic.errors import HostFromFile, InvalidConfig, RunDiffers, SlotsMissing, UnreadableConfig
from esper.simic.hosts import host_named, is_import_path
from esper.simic.tasks import batch_size_of

try:
    import yaml
except ImportError as error:
    raise MissingPackage(package="PyYAML", purpose="a run's configuration", extra="growth") from error


class TrainConfig(BaseModel):
    """A run's options. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field("mnist1d", description="what to learn")
    data: str | None = Field(None, description="the folder of the task's files, where it reads any")
    host: str = Field("cnn", description="the network that grows")
    slots: list[str] | None = Field(None, description="where seeds may go; the host's own choice if left out")
    blueprints: list[str] | None = Field(
        None, description="what may be planted; the host's own choice if left out"
    )
    policy: str = Field("heuristic", description="who decides")
    policy_options: dict[str, Any] = Field(default_factory=dict, description="the policy's own parameters")
    incubation: str = Field("counterfactual", description="how a seed learns before it is blended in")
    epochs: int = Field(40, ge=1, description="passes over the training split")
    seed: int = Field(0, ge=0, lt=2**32, description="of data, initialisation, order and policy")
    device: str = Field("cpu", description="where to train")
    threads: int = Field(
        1,
        ge=1,
        description="of torch on the CPU: one is fastest for small hosts, and sums depend on their number",
    )
    batch_size: int | None = Field(
        None, ge=2, description="examples in a step; the task's own choice if left out"
    )
    lr: float = Field(0.01, gt=0, le=100, description="AdamW's peak learning rate")
    weight_decay: float = Field(0.01, ge=0, le=100, description="AdamW's weight decay")
    warmup_epochs: int = Field(2, ge=0, description="epochs of linear warm-up before the cosine decay")
    clip_norm: float = Field(1.0, gt=0, allow_inf_nan=False, description="largest gradient norm of the host")
    checkpoint_every: int = Field(
        0, ge=0, description="optimizer steps between checkpoints; 0 for one after each epoch"
    )
    keep_checkpoints: int = Field(2, ge=1, description="how many checkpoints stay, the newest ones")


MAY_DIFFER = frozenset({"checkpoint_every", "keep_checkpoints"})
"""Options that a run may be resumed with other values of: they have no part in what it computes."""


LATEST_GERMINATION = 0.6
"""Share of the epochs after which the heuristic plants nothing: what comes later is not decided in time."""


def load_config(path: Path | None, options: Mapping[str, Any]) -> TrainConfig:
    """The file's settings under those of `options`, resolved.

    Raises `UnreadableConfig`, `InvalidConfig` for an unknown key or a wrong value, and `HostFromFile` for a
    host that would be imported but is named by the file alone.
    """
    settings = {} if path is None else _read(path)
    source = "the options" if path is None else str(path)
    if "host" not in options and is_import_path(str(settings.get("host", ""))):
        raise HostFromFile(source=source, name=settings["host"])
    try:
        return resolve(TrainConfig.model_validate({**settings, **options}))
    except ValidationError as error:
        raise InvalidConfig(source=source, problems="; ".join(_problem(e) for e in error.errors())) from error


def resumed_config(run: Path, config: Path | None, options: Mapping[str, Any]) -> TrainConfig:
    """The configuration of the run whose config.yaml is `run`, with what `config` and `options` may change.

    A host that would be imported has to be named in `options` again. Raises `RunDiffers` where they ask for
    another run, and what `load_config` raises.
    """
    begun = load_config(run, {name: options[name] for name in ("host",) if name in options})
    begun = begun.model_copy(update={"host": str(_read(run).get("host", begun.host))})
    wanted = load_config(run if config is None else config, options)
    differences = [
        f"{name} {json.dumps(value)}, not {json.dumps(asked)}"
        for (name, value), asked in zip(begun.model_dump().items(), wanted.model_dump().values(), strict=True)
        if value != asked and name not in MAY_DIFFER
    ]
    if differences:
        raise RunDiffers(path=run.parent, differences="; ".join(differences))
    return wanted


def resolve(config: TrainConfig) -> TrainConfig:
    """The configuration with all that was left to host or task. Raises `UnknownHost`, `UnknownTask`,
    and `SlotsMissing` for an imported host without slots, or without blueprints for them."""
    slots, blueprints = config.slots, config.blueprints
    if not is_import_path(config.host):
        host = host_named(config.host)
        slots = list(host.slots) if slots is None else slots
        blueprints = list(host.blueprints) if blueprints is None else blueprints
    elif not slots:
        raise SlotsMissing(host=config.host, what="slots")
    elif not blueprints and config.policy != "never":
        raise SlotsMissing(host=config.host, what="blueprints")
    batch_size = batch_size_of(config.task) if config.batch_size is None else config.batch_size
    options = dict(config.policy_options)
    if config.policy == "heuristic":
        options.setdefault("last_epoch", round(LATEST_GERMINATION * config.epochs))
    return config.model_copy(
        update={
            "slots": slots or [],
            "blueprints": blueprints or [],
            "policy_options": options,
            "batch_size": batch_size,
        }
    )


def config_text(config: TrainConfig) -> str:
    """The configuration as YAML, in the order of its definition."""
    return str(yaml.safe_dump(config.model_dump(), sort_keys=False))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UnreadableConfig(path=path, reason=reason) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UnreadableConfig(path=path, reason="it holds no mapping of options")
    return {str(key): value for key, value in content.items()}


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key `{place}`"
    return f"`{place}`: {error['msg'][0].lower()}{error['msg'][1:]}, found {error['input']!r}"
