"""What can be wrong with a training run's configuration, task or host, one class a kind of error."""

from __future__ import annotations

from esper.errors import EsperError


class UnknownTask(EsperError):
    code = "E0901"
    message = "unknown task `{name}`"
    help = "the tasks are {choices}"


class UnknownHost(EsperError):
    code = "E0902"
    message = "unknown host `{name}`"
    help = "the hosts are {choices}"


class InvalidConfig(EsperError):
    code = "E0906"
    message = "{source}: {problems}"
    help = "`esper train --help` lists the options; the file's keys are the options' names with underscores"


class UnreadableConfig(EsperError):
    code = "E0907"
    message = "cannot read the configuration {path}: {reason}"
    help = "give the path of a YAML file, such as a run's config.yaml"


class RunDirectoryTaken(EsperError):
    code = "E0908"
    message = "{path} holds a run already"
    help = "give another --out, or leave it out for a free runs/TASK-SEED-N"


class RunDirectoryUnwritable(EsperError):
    code = "E0909"
    message = "cannot write the run directory {path}: {reason}"
    help = "give a folder that you may write to with --out"


class UnknownDevice(EsperError):
    code = "E0910"
    message = "device `{device}` is not here: {reason}"
    help = "--device cpu works everywhere"
    exit_code = 3
