"""What can be wrong with an edit; each message begins with the edit as it was written."""

from esper.errors import EsperError


class MalformedEdit(EsperError):
    code = "E1060"
    message = "`{text}` is no edit"
    help = "{forms}"


class UnknownNode(EsperError):
    code = "E1061"
    message = "`{edit}`: there is no node `{name}`"
    help = "{suggestion}"


class TypesDiffer(EsperError):
    """fits: the values of the graph that would do, in words."""

    code = "E1062"
    message = "`{edit}`: {what} is {found}, expected {expected}"
    help = "{fits}"


class ImpossibleEdit(EsperError):
    code = "E1063"
    message = "`{edit}`: {reason}"
    help = "{way}"


class ConstraintBroken(EsperError):
    code = "E1064"
    message = "`{edit}`: the graph has {quantity} = {found}"
    help = "relax the constraint, or put edits before it that make the graph smaller"
