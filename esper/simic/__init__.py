"""Simic: trains.

Owns the tasks and their data, the hosts, the training loop and the run directory. It uses growth through
the same face as a user's script would, and never reaches into a slot, a gate or an optimizer's state.
"""
