"""What a graph costs, counted from it: nothing here is measured.

It knows the language and the passes, but neither spaces nor constraints nor algorithms.
"""

from esper.tezzeret.costs.figures import (
    DEVICES,
    QUANTITIES,
    REFERENCE_DEVICE,
    Device,
    Quantities,
    quantities,
)

__all__ = [
    "DEVICES",
    "QUANTITIES",
    "REFERENCE_DEVICE",
    "Device",
    "Quantities",
    "quantities",
]
