"""Whether a slot's module runs in every training step: what a slot's status says."""

from __future__ import annotations

IDLE_STEPS = 10
"""Steps in a row without a call after which a slot counts as never run since."""


class Attendance:
    """Counts the optimizer steps in which a module ran with gradients enabled, and those in which it did not.

    Calls in compiled code are not seen; it only says that there are some.
    """

    def __init__(self) -> None:
        self.is_present = False
        """Whether it ran since the last step."""
        self.is_compiled = False
        self.steps = 0
        self.missed = 0
        self.idle = 0
        """The steps in a row, up to the last, in which it did not run."""

    def tick(self) -> None:
        """Ends one optimizer step."""
        self.steps += 1
        if self.is_present:
            self.is_present, self.idle = False, 0
        else:
            self.missed += 1
            self.idle += 1

    def status(self, step: int, calls: int) -> str:
        """`ok`, or what is unusual at optimizer step `step`. calls: of the module on the example."""
        if self.is_compiled:
            return "compiled, so not counted"
        if self.idle == self.steps > 0 and not self.is_present:
            return "never ran since attach"
        if self.idle >= IDLE_STEPS and not self.is_present:
            return f"never ran since step {step - self.idle}"
        if self.missed:
            return f"irregular: ran in {self.steps - self.missed} of {self.steps} steps"
        return "ok" if calls == 1 else f"irregular: {calls} calls a pass"
