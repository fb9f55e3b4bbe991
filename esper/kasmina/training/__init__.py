"""What a training loop holds: the optimizer that steps seeds beside the host, growth, and the governor.

It asks a policy, and carries out what gates and slots let through.
"""
