"""The study: does growing pay? Three questions, each put to every arm on equal terms.

Owns the arms, their jobs, the statistics over paired seeds and the report. It trains by Simic's tasks and
hosts and grows by the same face as a user's script would.
"""
