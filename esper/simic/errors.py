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


class RunDirectoryForeign(EsperError):
    """Files in a folder have the names of a run's files: they are somebody's, and are left alone."""

    code = "E0919"
    message = "{path} holds a {name} that no run wrote, and a run would write over it"
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


class HostDoesNotFit(EsperError):
    code = "E0903"
    message = "the host `{host}` does not take the examples of `{task}`"
    help = "its hosts are {choices}"


class HostNotImported(EsperError):
    code = "E0904"
    message = "cannot import the host `{name}`: {reason}"
    help = "name it package.module:function, and set PYTHONPATH to where the package lies"


class HostFails(EsperError):
    code = "E0905"
    message = "`{name}` makes no host: {reason}"
    help = "it is called with the task, and returns a torch.nn.Module that takes a batch of its examples"


class HostFromFile(EsperError):
    """A configuration file asks for code to be imported, which files may not do."""

    code = "E0911"
    message = "{source} names the host `{name}`, an import path, which is taken from the command line alone"
    help = "read the file, and if you trust it, add --host {name}"


class DataMissing(EsperError):
    """Data that a task reads from a path is not there."""

    code = "E0912"
    message = "the task `{task}` found no {missing}"
    help = "{way_out}"


class DataUnreadable(EsperError):
    code = "E0913"
    message = "{path} is not what the task `{task}` reads: {reason}"
    help = "{way_out}"


class SlotsMissing(EsperError):
    code = "E0914"
    message = "the host `{host}` says nothing of its {what}"
    help = "name them with --{what}"


class NoRunCheckpoint(EsperError):
    code = "E0915"
    message = "{path} is a checkpoint, but not of a run of `esper train`"
    help = "give one from a run's checkpoints/ folder, or --resume auto with the run's folder as --out"


class RunDiffers(EsperError):
    """A run goes on only as it was begun: anything else would be another run."""

    code = "E0916"
    message = "the run in {path} was begun with {differences}"
    help = "leave these options out to go on with it, or begin another run in another --out"


class NoRunToResume(EsperError):
    code = "E0917"
    message = "{path} lies in no run's checkpoints/ folder: {reason}"
    help = "give the path that the run wrote it to, runs/NAME/checkpoints/step-NNNNNNNN.safetensors"


class NothingToExport(EsperError):
    code = "E0918"
    message = "{path} holds no run to export: {reason}"
    help = "give the folder that `esper train` wrote, with its config.yaml and checkpoints/"
