"""The graph by torch's own operators: a module that runs on any device, and a file that people read.

It knows nothing of kernels.
"""
