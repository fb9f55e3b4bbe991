"""From a kernel's text to native code and what it costs: worker processes, the cache, tuning, the tools.

It needs no GPU, and knows no graph.
"""
