"""A record of tuning: what is known of one kernel on one target, as a file holds it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from esper.urza.kernel import Configuration, Constant


class Setting(BaseModel):
    """A configuration as a record holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    constexprs: dict[str, Constant]
    num_warps: int
    num_stages: int

    @classmethod
    def of(cls, configuration: Configuration) -> Setting:
        return cls(
            constexprs=dict(configuration.constexprs),
            num_warps=configuration.num_warps,
            num_stages=configuration.num_stages,
        )

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.constexprs, self.num_warps, self.num_stages)


class Record(BaseModel):
    """What is known of one kernel on one target.

    device: where it was measured. sizes: of the run-time sizes. times_ms: by the digest of the kernel in each
    configuration; null for one that does not build, or spills. chosen: what to build; null while undecided.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int = 1
    kernel: str
    target: str
    device: str
    seed: int
    sizes: dict[str, int]
    times_ms: dict[str, float | None] = {}
    chosen: Setting | None = None


def read_record(text: bytes) -> Record | None:
    """The record that `text` is; None where it is none."""
    try:
        return Record.model_validate_json(text)
    except ValidationError:
        return None
