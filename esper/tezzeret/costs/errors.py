"""What the incremental evaluation does not take upon itself; the caller then takes the full road."""


class Unforeseen(Exception):
    """The graph holds what its parts do not show by themselves. Never reaches a user."""
