"""Kasmina: slots in a host network, and the life of the seeds in them.

Owns attachment, isolation, blending, gates, the control, the optimizer that trains seeds beside the
host, rollback and export. It knows Leyline's contracts, blueprints and compiled seeds; of policies
only their protocol; of tasks, environments and files nothing.
"""
