"""Tamiyo: decides when and where to grow.

Owns the signal tracker and the rule-based policies. It sees Leyline's signals and answers with Leyline's
actions; it knows no network, no optimizer and no training loop, and imports no torch.
"""

from esper.tamiyo.heuristic import HeuristicParameters, HeuristicTamiyo
from esper.tamiyo.policies import POLICIES, policy_named
from esper.tamiyo.tracker import SignalTracker

__all__ = ["POLICIES", "HeuristicParameters", "HeuristicTamiyo", "SignalTracker", "policy_named"]
