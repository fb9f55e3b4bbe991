"""The intermediate representation: sizes, types, the graph, its text and JSON forms, its verifier and hash,
and the operator entry. It owns the operator table; it must not know any operator, pass or language.
"""

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, evaluate_size, product, size_symbols, substitute, symbol
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Operator
from esper.ir.text import parse_ir, parse_size, parse_type, print_ir
from esper.ir.types import DType, TensorType
from esper.ir.verify import verify

__all__ = [
    "OPERATORS",
    "BlueprintIR",
    "Builder",
    "DType",
    "Dim",
    "Node",
    "Operator",
    "Size",
    "TensorType",
    "Value",
    "evaluate_size",
    "parse_ir",
    "parse_size",
    "parse_type",
    "print_ir",
    "product",
    "size_symbols",
    "substitute",
    "symbol",
    "verify",
]
