"""What can be wrong with what is asked of a synthesis."""

from esper.errors import EsperError


class NoTemplate(EsperError):
    """The library has nothing of the kind that was asked for between these shapes. possible: what it has."""

    code = "E1090"
    message = "no {operation} template leads from {given} to {wanted}: {reason}"
    help = "{possible}"


class Unsatisfiable(EsperError):
    """Every template that fits the shapes is proven to break the limits. relaxed: the least that helps."""

    code = "E1091"
    message = "none of {templates} templates keeps {conflict}: {proof}"
    help = "{relaxed}"


class Unsatisfied(EsperError):
    code = "E1092"
    message = (
        "nothing was found that keeps {conflict}, among {templates} templates; that none can is not proven"
    )
    help = "{relaxed}"


class NotAccurate(EsperError):
    """What keeps the other limits was trained, the best by the objective first."""

    code = "E1093"
    message = "none of the {trained} best candidates learns {wanted:.1%} of the task; the best has {best:.1%}"
    help = "lower target_accuracy, or train for longer"


class OtherShapes(EsperError):
    """existing_architecture: an edit keeps what goes in and comes out."""

    code = "E1094"
    message = "the blueprint `{blueprint}` leads from {found}, expected {wanted}"
    help = "leave out existing_architecture, or choose one with these shapes"


class NoRegistry(EsperError):
    code = "E1095"
    message = "existing_architecture names a blueprint of a registry, and there is none"
    help = "give the registry that it is in"
