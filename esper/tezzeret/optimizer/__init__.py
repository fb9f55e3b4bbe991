"""Rewrites of a graph under an objective: fusion, parallel paths, bottlenecks, precision, and their effects.

Nothing is run but a small evaluation that measures what narrow products lose; all other figures are those of
plans. A seed trains as before: its parameters keep their names, its gradients are the same by passes' laws.
"""

from esper.tezzeret.optimizer.branches import Branch, Fork, forks
from esper.tezzeret.optimizer.figures import GOALS, Figures
from esper.tezzeret.optimizer.optimize import BUDGET, Optimized, Step, optimize

__all__ = ["BUDGET", "GOALS", "Branch", "Figures", "Fork", "Optimized", "Step", "forks", "optimize"]
