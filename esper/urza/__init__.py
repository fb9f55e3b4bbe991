"""Urza: from a blueprint's graph to kernels that run, and the module around them.

It plans which operators share a kernel, generates Triton source from the templates, builds it ahead of
time, caches and packs the results, checks them in an interpreter, and runs them. It knows graphs and
passes below it; it knows nothing of slots, policies or training above it.
"""
