"""Torch references of operators that torch has under no single name. Only the evaluator, the torch tier and
verification import these modules; checking a blueprint never does.
"""
