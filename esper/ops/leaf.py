"""Leaves: what a graph is given. Their types are declared, not inferred."""

from esper.ir.operator import Attribute, Kind, Leaf, Operator, define

INITIALISERS = ("zeros", "ones", "fan_in_uniform", "kaiming_uniform", "kaiming_normal", "normal")

define(
    Operator(
        name="input",
        doc="A tensor that the caller gives.",
        lowering=Leaf(),
        no_gradient="a leaf",
        in_language=False,
    )
)

define(
    Operator(
        name="param",
        doc="A trainable weight, part of the seed's state.",
        lowering=Leaf(),
        attributes=(
            Attribute(
                "init",
                Kind.STRING,
                choices=INITIALISERS,
                doc="zeros; ones; fan_in_uniform: U(-b, b) with b = gain / sqrt(fan_in), torch's default for"
                " linear and convolution; kaiming_uniform: b = gain * sqrt(6 / fan_in); kaiming_normal: "
                "standard deviation gain * sqrt(2 / fan_in); normal: standard deviation gain",
            ),
            Attribute("fan_in", Kind.DIM, 1, doc="inputs that feed one output"),
            Attribute("gain", Kind.FLOAT, 1.0, doc="factor on the initial scale"),
        ),
        no_gradient="a leaf",
        in_language=False,
    )
)

define(
    Operator(
        name="buffer",
        doc="A running statistic: state that no gradient reaches and that an update may replace.",
        lowering=Leaf(),
        attributes=(Attribute("init", Kind.STRING, choices=("zeros", "ones"), doc="the first value"),),
        no_gradient="a leaf",
        in_language=False,
    )
)

define(
    Operator(
        name="constant",
        doc="A scalar known when the graph is built.",
        lowering=Leaf(),
        attributes=(
            Attribute("value", Kind.FLOAT, doc="the value, converted to the node's dtype", unbounded=True),
        ),
        no_gradient="a leaf",
        in_language=False,
    )
)

define(
    Operator(
        name="seed",
        doc="The random seed of this run, an `i64[]` given at run time; random operators mix it with their "
        "offset.",
        lowering=Leaf(),
        no_gradient="a leaf",
        in_language=False,
    )
)
