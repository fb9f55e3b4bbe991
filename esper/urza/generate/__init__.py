"""Generation: a group of the plan as the text of one Triton kernel around a template of `esper.kernels`.

It decides nothing about what runs together, and builds nothing.
"""
