"""What can be wrong with the choice of a policy."""

from esper.errors import EsperError


class UnknownPolicy(EsperError):
    code = "E0921"
    message = "unknown policy `{name}`"
    help = "the policies are {choices}"


class InvalidPolicyOption(EsperError):
    code = "E0922"
    message = "policy `{policy}`: {reason}"
    help = "its options are {options}"


class NoBlueprints(EsperError):
    code = "E0923"
    message = "policy `{policy}` has no blueprint to plant"
    help = "name at least one blueprint, or choose the policy `never`"
