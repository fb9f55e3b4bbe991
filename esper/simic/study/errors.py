"""What can be wrong with a study, one class a kind of error."""

from __future__ import annotations

from esper.errors import EsperError


class StudyTaken(EsperError):
    code = "E0940"
    message = "{path} holds a study already"
    help = "--resume auto goes on with it; or give another --out"


class StudyDiffers(EsperError):
    code = "E0941"
    message = "{path} holds a study with {name} = {found}, and {expected} was asked for"
    help = "ask for the same study, or give another --out"


class StudyUnreadable(EsperError):
    code = "E0942"
    message = "cannot read {path}: {reason}"
    help = "delete that file: its job is done again at the next --resume auto"


class ArmsMissing(EsperError):
    code = "E0943"
    message = "no report: {missing}"
    help = "--resume auto does again what is missing"


class TaskWithoutStudy(EsperError):
    code = "E0944"
    message = "the question `{question}` cannot be asked of the task `{task}`"
    help = "its tasks are {choices}"
