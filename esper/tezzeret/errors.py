"""What can be wrong with a search: its constraints, its space, or that nothing fits."""

from esper.errors import EsperError


class MalformedConstraint(EsperError):
    code = "E1001"
    message = "`{text}` is no constraint"
    help = "write a quantity, a comparison and a number, such as params<=20000"


class UnknownQuantity(EsperError):
    code = "E1002"
    message = "`{name}` is no quantity of a blueprint"
    help = "{suggestion}"


class UnknownTarget(EsperError):
    code = "E1007"
    message = "the cost model has no figures for the target `{name}`"
    help = "it knows {known}"


class NothingToChoose(EsperError):
    code = "E1003"
    message = "blueprint `{blueprint}` leaves nothing to choose"
    help = "give a parameter a domain, as in `kernel: int = 3 in {{3, 5}}`, or set fewer of them"


class NothingMeetsConstraints(EsperError):
    """Of what was tried. way: what else to do than relax a constraint; empty where all was tried."""

    @property
    def is_of_all(self) -> bool:
        """Whether there is no candidate that was not tried."""
        return not self.details["way"]


class NothingFeasible(NothingMeetsConstraints):
    """One constraint is broken by every candidate that was tried; `nearest` is the figure closest to it."""

    code = "E1004"
    message = (
        "none of {trials} candidates of `{blueprint}` satisfies `{constraint}`; the nearest has {nearest}"
    )
    help = "{way}relax that constraint, or widen the domains"


class NothingValid(EsperError):
    code = "E1005"
    message = "none of {trials} candidates of `{blueprint}` can be elaborated; the first: {reason}"
    help = "widen the domains, or set other parameters with --set"


class OverwritesSource(EsperError):
    code = "E1006"
    message = "`{path}` is the blueprint that is read"
    help = "choose another file for the result"


class EndlessSpace(EsperError):
    code = "E1010"
    message = "not every point can be tried: `{name}` may be any number in {domain}"
    help = (
        "give it a step, as in `in 0.0..0.5 step 0.1`, set it with --set {name}=…, or draw points at random"
    )


class OutsideSpace(EsperError):
    code = "E1011"
    message = "`{found}` is no point of this space"
    help = "it was written for other domains: search anew, or restore the blueprint"


class ConstraintsContradict(NothingMeetsConstraints):
    """Each of several constraints holds somewhere, but none of the candidates satisfies them together."""

    code = "E1020"
    message = (
        "none of {trials} candidates of `{blueprint}` satisfies {constraints} at once, "
        "though each is satisfied by some"
    )
    help = "{way}relax one of them: keeping the others, {nearest}"


class NothingEvaluated(EsperError):
    """A search was stopped, or its time was up, before its first candidate was evaluated."""

    code = "E1021"
    message = "the search of `{blueprint}` ended before a candidate was evaluated: {reason}"


class WorkerLost(EsperError):
    """A process or a machine that evaluated candidates is gone; what it worked on is lost."""

    code = "E1022"
    message = "a worker of the search died: {reason}"
    help = "search with fewer workers, and with a storage, which keeps what was evaluated"


class StorageTaken(EsperError):
    code = "E1023"
    message = "`{path}` holds a search already"
    help = "go on with it by --resume, or choose another file"


class StorageForeign(EsperError):
    """A file that no search wrote, or that is damaged. It is left as it was."""

    code = "E1024"
    message = "`{path}` is no storage of a search: {reason}"
    help = "choose another file"


class StorageDiffers(EsperError):
    """A storage belongs to one question: for another its evaluations would be wrong, or out of order."""

    code = "E1025"
    message = "`{path}` holds a search with {name} {found}, not {expected}"
    help = "search with the same, or choose another file"


class StorageInUse(EsperError):
    code = "E1026"
    message = "`{path}` is in use by another process"
    help = "wait for the search that has it, or choose another file"


class Untrainable(EsperError):
    """A point whose graph cannot be trained where the search tries it. The search goes on with others."""

    code = "E1027"
    message = "it cannot be trained there: {reason}"


class AccuracyUnjudged(EsperError):
    """How well blueprints learn is told by training, and nothing was given to train on."""

    code = "E1028"
    message = "accuracy on which task? a blueprint's graph does not tell how well it learns"
    help = "add --task mnist1d, --host and --slot, or search by latency, memory or balanced"


class EmptyDomain(EsperError):
    code = "E1013"
    message = "`{name}` may be nothing at all with {given}"
    help = "its domain depends on other parameters: set these differently, or set {name} with --set, too"


class TooComplex(EsperError):
    code = "E1012"
    message = "a candidate of `{blueprint}` has {nodes} nodes, more than max_blueprint_complexity = {limit}"
    help = "narrow the domains of what is repeated, or fix them with --set"


class InvalidRequirements(EsperError):
    code = "E1040"
    message = "these are no requirements: {problems}"
    help = (
        "input_shape and output_shape are needed; operation_type, constraints, optimization_target, "
        "hardware_target, existing_architecture and dtype may be left out"
    )
