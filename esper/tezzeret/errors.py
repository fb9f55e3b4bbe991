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


class NothingFeasible(EsperError):
    code = "E1004"
    message = (
        "none of {trials} candidates of `{blueprint}` satisfies `{constraint}`; the nearest has {nearest}"
    )
    help = "relax that constraint, or widen the domains"


class NothingValid(EsperError):
    code = "E1005"
    message = "none of {trials} candidates of `{blueprint}` can be elaborated; the first: {reason}"
    help = "widen the domains, or set other parameters with --set"


class OverwritesSource(EsperError):
    code = "E1006"
    message = "`{path}` is the blueprint that is searched"
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
