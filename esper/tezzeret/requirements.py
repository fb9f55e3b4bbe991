"""What is asked of a blueprint: shapes, limits, what to make small, and for which hardware.

Requirements come from outside, so they are checked here, once. Equal ones have equal hashes, however they
were written down: a cache finds the blueprint that answered them before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from esper.ir.types import MAX_RANK, DType
from esper.lang.names import closest
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import DEVICES
from esper.tezzeret.errors import InvalidRequirements, UnknownTarget

if TYPE_CHECKING:
    import torch

Shape = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, lt=2**31)], ...], Field(min_length=1, max_length=MAX_RANK)
]
"""Sizes along each axis, the batch first."""

Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

OperationType = Literal["any", "attention", "convolution", "mlp", "recurrent", "transformer"]
Target = Literal["latency", "memory", "accuracy", "balanced"]


class _Closed(BaseModel):
    """Unknown keys are refused: a limit that is misspelt would be no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Closed):
    """What a blueprint must keep to. One that is left out does not bind."""

    max_latency_ms: Amount | None = Field(
        default=None, description="of one training step on the hardware target"
    )
    max_memory_mb: Amount | None = Field(
        default=None, description="MiB of weights and of what backward keeps"
    )
    target_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = Field(
        default=None, description="a share of the held-out examples"
    )


class Requirements(_Closed):
    """What is asked of a blueprint. See `parse_requirements` for ones that come from outside."""

    input_shape: Shape = Field(description="of the tensor that the blueprint takes")
    output_shape: Shape = Field(description="of the tensor that it returns")
    operation_type: OperationType = Field(default="any", description="the kind of block to choose from")
    constraints: Limits = Field(default=Limits(), description="what to keep to")
    optimization_target: Target = Field(default="balanced", description="what to make the best of")
    hardware_target: str | None = Field(
        default=None, description="the GPU that latency is about, such as sm_90"
    )
    existing_architecture: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="the canonical hash of the blueprint to start from"
    )
    dtype: Literal["f16", "bf16", "f32", "f64"] = Field(
        default="f32", description="of both tensors' elements"
    )

    @property
    def element_type(self) -> DType:
        return DType(self.dtype)

    @property
    def text(self) -> str:
        """JSON in one canonical form: what is left out is not in it, a default that is spelt out is."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)

    @property
    def hash(self) -> str:
        """SHA-256 of `text`, in hexadecimal: equal for equal requirements."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def bounds(self) -> list[Constraint]:
        """What a search can hold candidates to by counting; accuracy is only known by training.

        Raises `UnknownTarget` for hardware that the cost model has no figures of.
        """
        require_known(self.hardware_target)
        latency, memory = self.constraints.max_latency_ms, self.constraints.max_memory_mb
        found = []
        if latency is not None:
            found.append(Constraint("latency_ms", "<=", latency, self.hardware_target))
        if memory is not None:
            found.append(Constraint("memory_mb", "<=", memory))
        return found


def require_known(target: str | None) -> None:
    """Raises `UnknownTarget`."""
    if target is not None and target not in DEVICES:
        raise UnknownTarget(name=target, known=", ".join(DEVICES))


def parse_requirements(given: Mapping[str, Any]) -> Requirements:
    """Requirements as JSON or YAML holds them.

    Raises `InvalidRequirements`, which tells all that is wrong, and `UnknownTarget`.
    """
    try:
        found = Requirements.model_validate(given)
    except ValidationError as error:
        raise InvalidRequirements(problems="; ".join(map(_problem, error.errors()))) from error
    require_known(found.hardware_target)
    return found


class SlotTensor(Protocol):
    """What growth knows of a slot once an example has passed it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...


def slot_requirements(slot: SlotTensor, **asked: Any) -> Requirements:
    """What a seed for `slot` has to be: it takes and returns the slot's tensor.

    asked: all other fields of `Requirements`. Raises as `parse_requirements` does.
    """
    from esper.ops.reference.evaluate import TORCH_DTYPES  # torch, which checking does without

    names = {found: dtype.value for dtype, found in TORCH_DTYPES.items()}
    dtype = names.get(slot.dtype, str(slot.dtype).removeprefix("torch."))
    shapes = {"input_shape": tuple(slot.shape), "output_shape": tuple(slot.shape)}
    return parse_requirements({**asked, **shapes, "dtype": dtype})


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            model = Limits if error["loc"][0] == "constraints" else Requirements
            near = closest(str(error["loc"][-1]), model.model_fields)
            return f"unknown key `{place}`" + (f", did you mean `{near}`?" if near else "")
        case "missing":
            return f"`{place}` is missing"
        case "string_pattern_mismatch":
            return f"`{place}` is {error['input']!r}, expected the 64 hexadecimal digits of a canonical hash"
        case "model_type" | "model_attributes_type":
            what = f"`{place}` is" if place else "the requirements are"
            return f"{what} {error['input']!r}, expected a mapping"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"`{place}` is {error['input']!r}: {message}"
