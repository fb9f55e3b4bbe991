"""What tells the time, so that a caller may: seconds since 1970."""

from collections.abc import Callable

Clock = Callable[[], float]
