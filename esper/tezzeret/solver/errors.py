"""What can be wrong where a graph is held to rules: the rules, or that nothing keeps them."""

from __future__ import annotations

from esper.errors import EsperError


class MalformedRule(EsperError):
    code = "E1070"
    message = "`{text}` is no rule"
    help = "{forms}"


class Infeasible(EsperError):
    """No values of a blueprint keep all that is asked: proven, by counting all or by bounds.

    conflict: which rules cannot be kept together. relaxed: what to ask instead, the least that helps.
    """

    code = "E1071"
    message = "no values of `{blueprint}` keep {conflict}: {proof}"
    help = "{relaxed}"


class NoRepairFound(EsperError):
    """Nothing that was tried keeps all that is asked; whether something else would is not known."""

    code = "E1072"
    message = "none of {trials} points of `{blueprint}` keeps {conflict}; that none can is not proven"
    help = "{relaxed}"
