"""What can be wrong with a pipeline, or with a graph that a pass is given."""

from esper.errors import EsperError


class UnknownPass(EsperError):
    code = "E0601"
    message = "there is no pass `{name}`"
    help = "the passes are {passes}"


class PassDefect(EsperError):
    """A pass is at fault, not its graph. `given` is the text of the graph, `pipeline` the pass as text."""


class PassBrokeGraph(PassDefect):
    code = "E0602"
    message = "the pass `{name}` made an invalid graph: {reason}"
    help = "this is a defect of the pass; please report it with the graph that it was given"


class PassCrashed(PassDefect):
    code = "E0610"
    message = "the pass `{name}` failed on a valid graph: {kind}: {reason}"
    help = "this is a defect of the pass; please report it with the graph that it was given"


class NotDifferentiable(EsperError):
    code = "E0603"
    message = "node `{node}`: `{operator}` has no gradient: {reason}"
    help = "ask only for gradients that do not pass through it"


class ReservedName(EsperError):
    code = "E0604"
    message = "`{name}` begins with `{prefix}`, which names what autodiff and partition add"
    help = "rename it"


class UnknownGradient(EsperError):
    code = "E0605"
    message = "no gradient with respect to `{name}`: it is not a floating input or param of `{blueprint}`"


class MistypedGradient(EsperError):
    code = "E0606"
    message = "node `{node}`: `{operator}` gives operand {index} the gradient {found}, expected {expected}"
    help = "this is a defect of the operator's entry"


class NotAJointGraph(EsperError):
    code = "E0607"
    message = "`{blueprint}` has no gradient outputs, so there is no backward graph to cut off"
    help = "run the pass `autodiff` first"


class MalformedPipeline(EsperError):
    code = "E0611"
    message = "the pipeline cannot be read at `{found}`"
    help = "a pipeline is passes with commas between; expected {expected}"


class UnknownOption(EsperError):
    code = "E0612"
    message = "the pass `{name}` has no option `{option}`"
    help = "its options: {options}"


class BadOption(EsperError):
    code = "E0613"
    message = "the option `{option}` of the pass `{name}` is `{found}`, expected {expected}"


class OptionNowhere(EsperError):
    code = "E0614"
    message = "no pass of the pipeline `{pipeline}` has the option `{option}`"
    help = "these have it: {passes}"


class NotEvaluated(EsperError):
    """A graph that the references cannot compute has no values that a pass could change."""

    code = "E0615"
    message = "`{blueprint}` cannot be evaluated with {sizes}: {reason}"
    help = "its sizes may be too small: set them with --size"
