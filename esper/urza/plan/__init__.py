"""The plan: which nodes share a kernel, over which space, in which tiles; rewrites that make them fit.

Legality and profit are apart and every refusal is kept. It knows graphs and sizes; it writes no text.
"""
