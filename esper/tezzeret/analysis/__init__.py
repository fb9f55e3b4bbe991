"""What a graph does when it runs, by its plan: work, memory over time, the bottleneck and its relief.

Everything is counted from the planned programs; nothing is measured. `esper.tezzeret.costs` counts from the
graph alone, in microseconds, for searches; here kernels are planned, which takes as long as planning does.
"""

from esper.tezzeret.analysis.analyze import Analysis, Memory, analyze
from esper.tezzeret.analysis.chains import Width
from esper.tezzeret.analysis.relief import Relief, reliefs, smaller_parameters
from esper.tezzeret.analysis.steps import Step

__all__ = ["Analysis", "Memory", "Relief", "Step", "Width", "analyze", "reliefs", "smaller_parameters"]
