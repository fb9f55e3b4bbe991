"""What can be wrong with a size, a type or a graph; each message names the node and the rule."""

from esper.errors import EsperError


class TypeRuleViolated(EsperError):
    code = "E0301"
    message = "`{operator}`: {reason}"


class UnboundSize(EsperError):
    code = "E0302"
    message = "the size `{name}` in `{size}` has no value"
    help = "give it one, for example with --size {name}=32"


class SizeOverflow(EsperError):
    code = "E0303"
    message = "a size has more than {terms} terms, a degree above {degree}, or a coefficient beyond 64 bits"
    help = "bind some of the parameters in it to numbers"


class MalformedIR(EsperError):
    code = "E0501"
    message = "{where}: {reason}"


class UnknownIROperator(EsperError):
    code = "E0502"
    message = "node `{node}`: `{operator}` is not in the operator table"
    help = "`docs/operators.md` lists the operators"


class InvalidNode(EsperError):
    code = "E0503"
    message = "node `{node}`: {reason}"


class InvalidGraph(EsperError):
    code = "E0504"
    message = "blueprint `{blueprint}`: {reason}"


class UnsupportedSchema(EsperError):
    code = "E0505"
    message = "IR schema version {found!r} is not supported"
    help = "this release reads schema version {expected}"
