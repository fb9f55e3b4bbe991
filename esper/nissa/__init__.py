"""Nissa: observes.

Owns the event stream, which is the truth about a run, and everything that reads it: the console, the
history of each seed, the blueprints' scoreboard, the narrative and the HTML report. It knows Leyline's
events alone: no network, no optimizer, and it imports no torch.
"""
