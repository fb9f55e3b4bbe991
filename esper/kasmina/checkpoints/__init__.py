"""A run's state as one file of data, exactly, and back; the seeds of a host alone as another.

Nothing in a file is imported or run.
"""
