"""Triton templates: the loops and the memory traffic that generated kernels share.

A template is a ``triton.jit`` function that a generated entry point calls. What differs from kernel to
kernel is passed into it: generated functions as ``tl.constexpr`` arguments, and the pointers and scalars
those functions need as one tuple. The files know Triton and nothing of Esper, so a reader can study them
alone. Narrow floats are widened to float32 as they are loaded: arithmetic happens in float32 only.
"""
