"""From requirements to a blueprint: templates of the library, repaired and searched, kept in a registry.

It knows spaces, costs, the solver and a registry that it is handed; it reads the library and nothing else.
"""

from esper.tezzeret.synthesis.strategies import Strategy
from esper.tezzeret.synthesis.synthesize import Synthesis, synthesize
from esper.tezzeret.synthesis.templates import TEMPLATES, Fitted, Template, Unfit, fitted, serving

__all__ = [
    "TEMPLATES",
    "Fitted",
    "Strategy",
    "Synthesis",
    "Template",
    "Unfit",
    "fitted",
    "serving",
    "synthesize",
]
