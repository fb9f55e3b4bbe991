"""Kernels against float64 without a GPU: Triton's interpreter, with every access to memory recorded."""
