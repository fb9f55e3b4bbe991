"""What can be wrong with a stage, an action or an event."""

from esper.errors import EsperError


class InvalidTransition(EsperError):
    code = "E0801"
    message = "a seed cannot go from {source} to {target}"
    help = "from {source} it can go to {valid}"


class UnknownEventKind(EsperError):
    code = "E0802"
    message = "unknown event kind `{kind}`"
    help = "the kinds are {known}"


class MalformedEvent(EsperError):
    code = "E0803"
    message = "a `{kind}` event {reason}"
    help = "its fields are {fields}"


class MalformedSignals(EsperError):
    code = "E0804"
    message = "`{field}` holds {found} values, expected {expected}"
    help = "pad the oldest end of a history with the first value seen"
