"""Leyline: the contracts that the systems of growth share.

Owns the seed's stages, the actions a policy may take, the signals it sees, what gates report, the
telemetry events and the protocols between systems. It knows no network and no training loop, and
imports no torch.
"""
