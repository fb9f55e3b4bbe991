"""A grown host as an ordinary module, in memory and on the disk, without Esper.

It knows fossilized seeds; a run's state belongs to checkpoints.
"""
