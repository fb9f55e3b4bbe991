"""What PyTorch, Keras, JAX and NumPy call things, and what they are called here.

Edit distance would take `swish` for `hardswish`, so these tables are consulted before it. A name counts
without its case, its underscores and a number of axes: `LayerNorm` is `layer_norm`, `Conv2d` is `conv`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from esper.lang.names import closest
from esper.resources import blueprint_files

_AXES = re.compile(r"(?<=[a-z])[1-4]d$")
VERY_CLOSE = 0.8
"""As much alike are a name and its misspelling, seldom two names."""


@dataclass(frozen=True, slots=True)
class Meant:
    """An operator by its name here, or a way out where there is none; `example` is a valid expression."""

    name: str = ""
    hint: str = ""
    example: str = ""

    @property
    def way_out(self) -> str:
        question = f"did you mean `{self.name}`?" if self.name else ""
        more = f"{self.hint}: `{self.example}`" if self.example else self.hint
        return f"{question} {more}".strip()


_ALIKE = {
    "abs": ("absolute", "fabs"),
    "adaptive_avg_pool": ("adaptive_average_pool", "adaptive_avg_pooling", "adaptive_average_pooling"),
    "adaptive_max_pool": ("adaptive_max_pooling",),
    "add": ("plus",),
    "amax": ("reduce_max",),
    "amin": ("reduce_min",),
    "avg_pool": ("average_pool", "average_pooling", "avg_pooling", "mean_pool"),
    "batch_norm": ("batch_normalization", "batchnormalise", "bn", "sync_batch_norm"),
    "binary_cross_entropy_with_logits": ("bce_with_logits", "bce_with_logits_loss", "bce_loss", "bce"),
    "broadcast_to": ("expand", "expand_as", "broadcast"),
    "cast": ("to", "astype", "type", "convert"),
    "channel_shuffle": ("shuffle_channels",),
    "clamp": ("clip", "clip_by_value"),
    "conv": ("convolution", "conv_general_dilated"),
    "conv_transpose": ("conv_transposed", "deconv", "deconvolution", "transposed_conv", "transpose_conv"),
    "cross_entropy": ("cross_entropy_loss", "softmax_cross_entropy", "softmax_cross_entropy_with_logits"),
    "depthwise_conv": ("depthwise_convolution", "dwconv", "separable_conv_depthwise"),
    "div": ("divide", "true_divide", "truediv"),
    "drop_path": ("stochastic_depth", "droppath"),
    "dropout": ("alpha_dropout", "drop"),
    "embedding": ("embed", "lookup", "embedding_lookup"),
    "equal": ("eq",),
    "feature_dropout": ("dropout1d", "dropout2d", "dropout3d", "spatial_dropout"),
    "flatten": ("ravel",),
    "flip": ("fliplr", "flipud", "reverse"),
    "gather": ("take", "take_along_axis", "take_along_dim", "index_select"),
    "gelu_tanh": ("gelu_new", "fast_gelu", "quick_gelu", "gelu_approximate"),
    "global_avg_pool": ("global_average_pool", "global_average_pooling", "gap"),
    "global_max_pool": ("global_max_pooling", "gmp"),
    "greater": ("gt",),
    "greater_equal": ("ge",),
    "hardsigmoid": ("hsigmoid",),
    "hardswish": ("hswish",),
    "interpolate": ("upsample", "upsampling", "upsampling_bilinear", "upsampling_nearest", "resize", "zoom"),
    "less": ("lt",),
    "less_equal": ("le",),
    "linear": ("dense", "fc", "fully_connected", "projection", "lazy_linear", "proj", "affine"),
    "l1_loss": ("mae", "mean_absolute_error", "mae_loss"),
    "layer_norm": ("layer_normalization", "ln"),
    "log_softmax": ("logsoftmax",),
    "logical_not": ("invert",),
    "matmul": ("dot", "mm", "bmm", "batch_matmul"),
    "max_pool": ("max_pooling",),
    "maximum": ("fmax",),
    "mean": ("average", "reduce_mean"),
    "minimum": ("fmin",),
    "mse_loss": ("mse", "mean_squared_error"),
    "mul": ("multiply", "times", "prod_elementwise"),
    "multi_head_attention": ("mha", "self_attention"),
    "neg": ("negative", "negate"),
    "pad": ("zero_padding", "zero_pad", "constant_pad"),
    "permute": ("moveaxis", "movedim", "rearrange"),
    "pixel_shuffle": ("depth_to_space",),
    "pixel_unshuffle": ("space_to_depth",),
    "pow": ("power", "float_power"),
    "prod": ("product", "reduce_prod"),
    "remainder": ("mod", "fmod", "floormod"),
    "repeat_interleave": ("repeat_elements",),
    "reshape": ("view", "view_as", "unflatten"),
    "rms_norm": ("rms_normalization", "root_mean_square_norm"),
    "roll": ("shift",),
    "scaled_dot_product_attention": ("sdpa", "dot_product_attention"),
    "silu": ("swish",),
    "smooth_l1_loss": ("smooth_l1",),
    "slice": ("narrow", "crop", "cropping", "getitem"),
    "sub": ("subtract", "minus"),
    "sum": ("reduce_sum", "add_n"),
    "tile": ("repeat_tensor",),
    "transpose": ("swapaxes", "swapdims"),
    "unsqueeze": ("expand_dims", "newaxis"),
    "vector_norm": ("l2_norm", "norm_l2"),
    "where": ("select", "cond"),
}

_OTHERWISE = {
    Meant("chunk", "a part of several is had by its index", "chunk(x, 2, index=0, axis=1)"): (
        "split",
        "tensor_split",
        "array_split",
        "unbind",
        "unstack",
    ),
    Meant("concat", "tensors stand side by side, without brackets", "concat(x, y, axis=1)"): (
        "cat",
        "concatenate",
        "hstack",
        "vstack",
        "column_stack",
    ),
    Meant("amax", "the larger of two tensors is another", "maximum(x, y)"): ("max",),
    Meant("amin", "the smaller of two tensors is another", "minimum(x, y)"): ("min",),
    Meant(hint="leave it out: a value that is not changed needs no operator"): (
        "identity",
        "id",
        "contiguous",
        "stop_gradient",
        "detach",
        "clone",
        "copy",
        "noop",
    ),
    Meant(hint="steps follow one another in a pipeline", example="x |> linear(width) |> relu()"): (
        "sequential",
        "module_list",
        "chain",
        "compose",
    ),
    Meant(hint="an operator is called by its own name", example="x |> relu()"): ("activation",),
    Meant(hint="a slope that is learned is none of the operators", example="leaky_relu(x)"): ("prelu",),
    Meant(hint="weights belong to the operator that uses them", example="linear(x, width, bias=true)"): (
        "parameter",
        "param",
        "weight",
        "bias",
        "variable",
    ),
    Meant(hint="a tensor of one number is made by arithmetic", example="x * 0 + 1"): (
        "ones",
        "zeros",
        "ones_like",
        "zeros_like",
        "full",
        "full_like",
    ),
    Meant(hint="noise is added by an operator", example="gaussian_noise(x, std=0.1)"): (
        "randn",
        "rand",
        "normal",
        "randn_like",
        "rand_like",
    ),
    Meant(hint="sizes have the names that `input x: f32[N, width]` gives them", example="width"): (
        "len",
        "shape",
        "size",
        "ndim",
        "numel",
    ),
    Meant(hint="whole numbers are had by whole arithmetic", example="width // 2"): ("int", "round_down"),
    Meant(hint="statements are repeated by `repeat depth as i { … }`, whose index is `i`"): (
        "range",
        "enumerate",
        "zip",
    ),
}

_ARGUMENTS = {
    "alpha": ("negative_slope", "slope"),
    "affine": ("elementwise_affine", "scale", "center"),
    "axes": ("dim", "dims", "axis", "reduction_indices"),
    "axis": ("dim", "axes", "dims"),
    "axis0": ("dim0", "axis1"),
    "axis1": ("dim1", "axis2"),
    "bias": ("use_bias", "with_bias"),
    "causal": ("is_causal", "use_causal_mask"),
    "channels": ("out_channels", "filters", "out", "features", "output_channels", "width"),
    "chunks": ("num", "sections", "num_chunks", "num_or_size_splits"),
    "classes": ("num_classes",),
    "dilation": ("dilation_rate", "rate"),
    "dropout": ("dropout_p", "p", "rate", "drop"),
    "end": ("end_dim",),
    "eps": ("epsilon", "variance_epsilon"),
    "factor": ("upscale_factor", "downscale_factor", "block_size", "scale"),
    "features": ("out_features", "units", "out", "output_dim", "embedding_dim", "dim", "width", "size"),
    "groups": ("num_groups", "feature_group_count", "group"),
    "heads": ("n_heads", "num_heads", "nhead", "n_head"),
    "hidden": ("hidden_size", "units", "hidden_features", "hidden_dim"),
    "init": ("kernel_initializer", "kernel_init", "weight_init", "initializer", "weight_initializer"),
    "keepdims": ("keepdim", "keep_dims", "keep_dim"),
    "kernel": ("kernel_size", "pool_size", "window", "window_shape", "k", "ksize", "filter_size"),
    "kv_heads": ("num_kv_heads", "n_kv_heads", "num_key_value_heads"),
    "mask": ("attn_mask", "attention_mask"),
    "max": ("max_val", "a_max", "clip_value_max", "high"),
    "min": ("min_val", "a_min", "clip_value_min", "low"),
    "momentum": ("decay",),
    "negative_slope": ("alpha", "slope"),
    "p": ("rate", "prob", "drop_prob", "dropout", "drop", "drop_rate", "drop_path", "probability"),
    "pad": ("padding", "pad_width", "paddings"),
    "padding": ("pad",),
    "repeats": ("reps", "multiples", "dims"),
    "reverse": ("go_backwards",),
    "rows": ("num_embeddings", "input_dim", "vocab_size", "vocab", "vocabulary"),
    "scale": ("scale_factor", "factor"),
    "shape": ("size", "target_shape", "newshape", "sizes", "dims"),
    "shifts": ("shift",),
    "size": ("output_size", "target_size", "shape"),
    "start": ("start_dim",),
    "std": ("stddev", "sigma"),
    "stride": ("strides", "window_strides"),
    "x": ("input", "tensor", "inputs", "a", "self", "operand"),
    "y": ("other", "b"),
}

_ELEMENT_TYPES = {
    "bf16": ("bfloat16", "brain16"),
    "bool": ("boolean", "bool8", "bit"),
    "f16": ("float16", "half", "fp16", "floating16"),
    "f32": ("float32", "float", "single", "fp32", "real"),
    "f64": ("float64", "double", "fp64"),
    "i32": ("int32", "int"),
    "i64": ("int64", "long", "integer"),
}

_FROM_THE_TENSOR = {
    *("in_features", "in_channels", "input_size", "num_features", "normalized_shape", "embed_dim"),
    *("num_channels", "input_shape", "in_dim", "d_model", "input_channels"),
}
_NOT_NEEDED = {
    "inplace": "leave it out: a tensor is never changed in place",
    "device": "leave it out: a blueprint runs where its tensors are",
    "batch_first": "leave it out: the batch is always the first axis",
    "data_format": "leave it out: channels are axis 1, as in `[N, channels, ...S]`",
    "bidirectional": "call it a second time with `reverse=true`, and `concat` both",
    "num_layers": "`repeat` stacks several of them",
    "name": "leave it out: a result is named by `h = …`",
    "approximate": "did you mean `gelu_tanh`? it is the approximation",
    "activation": "put it behind in the pipeline: `x |> linear(width) |> relu()`",
    "antialias": "leave it out: there is none",
    "align_corners": "leave it out: corners are not aligned",
}


def _plain(name: str) -> str:
    return _AXES.sub("", name.lower().replace("_", ""))


@cache
def _operators() -> dict[str, Meant]:
    """A name with its number of axes, like `dropout2d`, is told by it from the one without."""
    return {t if _AXES.search(t) else _plain(t): meant for t, meant in all_meant()}


def all_meant() -> list[tuple[str, Meant]]:
    """Every name of an operator elsewhere, with what it is here."""
    found = [(theirs, Meant(ours)) for ours, names in _ALIKE.items() for theirs in names]
    return found + [(theirs, meant) for meant, names in _OTHERWISE.items() for theirs in names]


@cache
def library_names() -> tuple[str, ...]:
    """The library's blueprints; each stands in the file of its name."""
    return tuple(file.name.removesuffix(".esp") for file in blueprint_files())


def known_operator(name: str, operators: Iterable[str]) -> str:
    """The way out for the operator that `name` is elsewhere, or is here but for its spelling; or nothing."""
    numbered = name.lower().replace("_", "")
    for plain in (numbered, _plain(name)):
        if plain in _operators():
            return _operators()[plain].way_out
    same = next((ours for ours in operators if _plain(ours) == _plain(name)), None)
    return f"did you mean `{same}`?" if same else ""


def operator_meant(name: str, known: Collection[str], otherwise: str) -> str:
    """The way out for `name`, which no operator is called: what it is elsewhere, a blueprint of the library
    that is not imported, or the closest of `known`, which may be called."""
    if name in library_names():
        return f"a blueprint of the library is called so: write `import {name}` at the top of the file"
    elsewhere = known_operator(name, known)
    if elsewhere:
        return elsewhere
    near = closest(name, known, VERY_CLOSE)
    of_library = None if near else closest(name, library_names(), VERY_CLOSE)
    if of_library:
        return f"did you mean `{of_library}`? `import {of_library}` brings it from the library"
    guess = near or closest(name, known)
    return f"did you mean `{guess}`?" if guess else otherwise


def argument_meant(name: str, known: Collection[str]) -> str:
    """The way out for an argument that nothing of `known` is called."""
    for ours, theirs in _ARGUMENTS.items():
        if ours in known and name.lower() in theirs:
            return f"did you mean `{ours}`?"
    if name in _FROM_THE_TENSOR:
        return "leave it out: the size is read from the tensor"
    guess = closest(name, known, VERY_CLOSE)
    if guess is None and name in _NOT_NEEDED:
        return _NOT_NEEDED[name]
    guess = guess or closest(name, known)
    if guess:
        return f"did you mean `{guess}`?"
    return f"it takes {', '.join(known)}" if known else "it takes none"


def element_type_meant(name: str, known: Iterable[str]) -> str:
    """The way out for an element type that is none here."""
    for ours, theirs in _ELEMENT_TYPES.items():
        if name.lower() in theirs:
            return f"did you mean `{ours}`?"
    guess = closest(name, known)
    return f"did you mean `{guess}`?" if guess else ""


def here(name: str, operators: Collection[str]) -> str:
    """The way out for a name that is an element type or an operator elsewhere; or nothing."""
    element_type = next((ours for ours, theirs in _ELEMENT_TYPES.items() if name.lower() in theirs), None)
    return f"did you mean `{element_type}`?" if element_type else known_operator(name, operators)


def value_meant(name: str, bound: Collection[str], operators: Collection[str]) -> str:
    """The way out for a name that nothing is bound to: a bound one, else what it is called here."""
    near = closest(name, bound, VERY_CLOSE)
    if near is None and (way_out := here(name, operators)):
        return way_out
    guess = near or closest(name, [*bound, *operators])
    return f"did you mean `{guess}`?" if guess else ""
