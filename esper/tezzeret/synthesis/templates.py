"""Which blueprints of the library serve which kind of operation, and how shapes become their parameters.

A template's own input declaration says what fits it: `f32[N, channels, ...S]` takes a map, and tells which
parameter is its number of channels. The table says what a declaration cannot: what the blueprint is for, and
by which parameters what comes out may differ from what goes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from esper.errors import EsperError
from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.lang import Interval, ParameterValue, SizeValue, load, lower_loaded, size_values
from esper.lang.ast import Input, Name, Output, Spread
from esper.lang.library import Loaded
from esper.lang.parameters import signature_of
from esper.tezzeret.requirements import OperationType, Requirements

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """operations: what it serves. width: the parameter that sets the features or channels of the result;
    step: the one by which it shrinks the other axes."""

    name: str
    operations: tuple[OperationType, ...]
    width: str | None = None
    step: str | None = None


def _of(operation: OperationType, *names: str) -> Iterator[Template]:
    return (Template(name, (operation,)) for name in names)


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        Template("conv_block", ("convolution",), "out", "stride"),
        Template("resnet_downsample", ("convolution",), "out", "stride"),
        *_of("convolution", "resnet_block", "mobilenet_block", "convnext_block", "conv_enhance"),
        *_of("convolution", "resnet_bottleneck", "resnet_preactivation", "mbconv_block", "group_norm_block"),
        *_of("convolution", "separable_conv", "depthwise", "dilated_conv", "inception_block"),
        *_of("convolution", "shuffle_block", "residual_dense", "wavenet_block"),
        *_of("mlp", "mlp_block", "glu_block", "bottleneck_adapter", "highway", "low_rank_adapter"),
        *_of("mlp", "mixer_block", "gmlp_block", "norm"),
        *_of("transformer", "transformer_block", "transformer_llama", "transformer_post_norm"),
        *_of("attention", "attention_layer", "attention", "grouped_query_attention"),
        *_of("attention", "squeeze_excite", "eca_block", "spatial_attention", "global_context"),
        *_of("recurrent", "gru_layer", "lstm_layer"),
    )
}
"""By name; of several that fit, those before come first."""

UNSERVED = {
    "cross_attention": "two inputs",
    "film": "two inputs",
    "unet_up": "two inputs",
    "unet_down": "two outputs",
    "dense_block": "its channels follow from its depth",
}
"""Blueprints of the library that no single tensor in and out can ask for, and why."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """`template` between two shapes: the parameters that this fixes, and the sizes of the other axes."""

    template: Template
    fixed: Mapping[str, ParameterValue] = field(default_factory=dict)
    sizes: Mapping[str, SizeValue] = field(default_factory=dict)
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why `template` does not lead from one shape to the other."""

    template: Template
    reason: str


def serving(operation: OperationType) -> list[Template]:
    """The templates for an operation, in the order of the table."""
    return [one for one in TEMPLATES.values() if operation == "any" or operation in one.operations]


def fitted(template: Template, asked: Requirements) -> Fitted | Unfit:
    """How `template` leads from the shape that goes in to the one that comes out, or why it does not."""
    loaded = loaded_template(template.name)
    if asked.dtype == "f64":
        return Unfit(template, "the library has no float64")
    found = _taken(loaded, asked.input_shape)
    if isinstance(found, str):
        return Unfit(template, found)
    fixed, sizes, axis = found
    if template.width is not None and len(asked.output_shape) == len(asked.input_shape):
        fixed[template.width] = asked.output_shape[axis]
    precision = None if asked.dtype == "f32" else asked.dtype
    reasons: dict[Shape | str, None] = {}
    for step in _steps(loaded, template):
        setting = {**fixed, **step}
        made = _made(loaded, setting, sizes, precision)
        if made == asked.output_shape:
            return Fitted(template, setting, sizes, precision)
        reasons[made] = None
    told = " or ".join(str(list(one)) if isinstance(one, tuple) else one for one in reasons)
    return Unfit(template, told)


@cache
def loaded_template(name: str) -> Loaded:
    """The library's blueprint `name`, read once."""
    return load(name)


def shapes_of(ir: BlueprintIR, sizes: Mapping[str, SizeValue]) -> tuple[Shape, Shape]:
    """Of the one input and the first output of `ir`."""
    values = size_values(ir, sizes)
    given, made = ir.inputs[0].type, ir.type(ir.outputs[0][1])
    return given.concrete_shape(values), tuple(evaluate_size(size, values) for size in made.shape)


def _taken(loaded: Loaded, shape: Shape) -> tuple[dict[str, ParameterValue], dict[str, SizeValue], int] | str:
    """Parameters and sizes by which the one input has `shape`, and the axis of the features; or why not."""
    body = loaded.blueprint.body
    inputs = [statement for statement in body if isinstance(statement, Input)]
    if len(inputs) != 1 or sum(isinstance(statement, Output) for statement in body) != 1:
        return "it has several inputs or outputs"
    parameters = {parameter.name for parameter in signature_of(loaded.blueprint).parameters}
    items = inputs[0].type.shape.items
    spread = next((n for n, item in enumerate(items) if isinstance(item, Spread)), None)
    wanted = len(items) - (spread is not None)
    if len(shape) < wanted or (spread is None and len(shape) > wanted):
        return f"it takes {_declared(inputs[0])}"
    fixed: dict[str, ParameterValue] = {}
    sizes: dict[str, SizeValue] = {}
    place, axis = 0, len(shape) - 1
    for item in items:
        if isinstance(item, Spread):
            count = len(shape) - wanted
            sizes[item.name.text] = shape[place : place + count]
            place += count
            continue
        if not isinstance(item, Name):
            return f"it takes {_declared(inputs[0])}"
        if item.text in parameters:
            fixed[item.text] = shape[place]
            axis = place
        else:
            sizes[item.text] = shape[place]
        place += 1
    return fixed, sizes, axis


def _declared(declared: Input) -> str:
    words = [
        f"...{item.name.text}" if isinstance(item, Spread) else item.text if isinstance(item, Name) else "?"
        for item in declared.type.shape.items
    ]
    return f"[{', '.join(words)}]"


def _steps(loaded: Loaded, template: Template) -> Iterator[dict[str, ParameterValue]]:
    if template.step is None:
        yield {}
        return
    for parameter in signature_of(loaded.blueprint).parameters:
        if parameter.name == template.step:
            assert parameter.domain is not None and not isinstance(parameter.domain, Interval)
            yield from ({template.step: value} for value in parameter.domain)


def _made(
    loaded: Loaded,
    fixed: Mapping[str, ParameterValue],
    sizes: Mapping[str, SizeValue],
    precision: str | None,
) -> Shape | str:
    """The shape that comes out, or why nothing does.

    Values of domains that the blueprint refuses together with the shapes decide nothing here: a parameter
    that refuses its default is left to the repair, so those that count are tried with each other value.
    """
    refused = ""
    for setting in _settings(loaded, fixed):
        try:
            ir = lower_loaded(loaded, {**fixed, **setting}, sizes, precision)[0]
            return shapes_of(ir, sizes)[1]
        except EsperError as error:
            refused = refused or str(error).splitlines()[0].split(": ", 1)[-1]
    return refused


def _settings(loaded: Loaded, fixed: Mapping[str, ParameterValue]) -> Iterator[dict[str, ParameterValue]]:
    """The defaults, then each other value of each parameter that is a number."""
    yield {}
    for parameter in signature_of(loaded.blueprint).parameters:
        domain = parameter.domain
        if parameter.name not in fixed and isinstance(domain, tuple):
            for value in domain:
                if type(value) is int and value != parameter.default:
                    yield {parameter.name: value}
