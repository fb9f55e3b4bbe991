"""What can be wrong with a registry, or with what is asked of it."""

from esper.errors import EsperError


class RegistryForeign(EsperError):
    """A file that no registry wrote, or that is damaged. It is left as it was."""

    code = "E1041"
    message = "`{path}` is no registry of blueprints: {reason}"
    help = "choose another file, or restore this one"


class RegistryInUse(EsperError):
    code = "E1042"
    message = "another process has been writing to the registry `{path}` for too long"
    help = "wait for it, or end it; what it had not finished is then undone"


class UnknownVersion(EsperError):
    code = "E1043"
    message = "the registry `{path}` has no version {number} of a blueprint"
    help = "it has {known}"


class UnregisteredBlueprint(EsperError):
    code = "E1044"
    message = "the registry `{path}` has no blueprint with the hash {ir_hash}"
    help = "add the blueprint first"
