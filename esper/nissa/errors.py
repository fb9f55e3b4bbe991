"""What can be wrong with a run's event stream."""

from esper.errors import EsperError


class MissingStream(EsperError):
    code = "E0931"
    message = "{path} holds no run: there is no events.jsonl in it"
    help = "give the folder that `esper train` printed"


class MalformedStream(EsperError):
    code = "E0932"
    message = "{path}, line {line}: {reason}"
    help = "the stream is damaged from there on; the lines before it are whole"


class StreamUnwritable(EsperError):
    code = "E0933"
    message = "cannot write the event stream {path}: {reason}"
    help = "choose another folder with --out, or make room"


class StreamTooShort(EsperError):
    code = "E0934"
    message = "{path} has {found} whole events, and the checkpoint was made after {expected}"
    help = "resume from an older checkpoint, or begin the run again in another folder"
