"""Mutants of a source file: one expression or statement each, changed as a slip of the hand would.

The operators are the usual ones (DeMillo, Lipton and Sayward 1978; as in mutmut and cosmic-ray): comparisons,
arithmetic, `and`/`or`, `not`, numbers and booleans, conditions negated, statements deleted, `return None`,
neighbouring arguments of a like kind exchanged, `min`/`max` and `any`/`all`.

Left alone, because no run can tell: docstrings, texts, type annotations, imports, decorators, assertions, and
the `sample` rules of operators, which say what tests draw.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.RShift: ast.LShift,
    ast.LShift: ast.RShift,
}
CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
CONTEXT = ("self", "build", "site", "ir", "entry")
TEXTS = ("doc", "no_gradient", "message", "help", "reason")  # keywords whose value is for readers
SKIPPED = (ast.Import, ast.ImportFrom, ast.Assert, ast.JoinedStr)


@dataclass(frozen=True)
class Mutant:
    """`before`, which stands at bytes `start` to `stop` of `file`, becomes `after`. Lines count from 1."""

    file: str
    line: int
    end_line: int
    start: int
    stop: int
    kind: str
    before: str
    after: str
    function: tuple[int, int] | None  # the lines of the innermost function around it

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.stop :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: `{self.before}` → `{self.after}`"


def mutants(root: Path, file: str) -> list[Mutant]:
    """All mutants of `root/file`, in the order of the source."""
    source = (root / file).read_bytes()
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    found = []
    for node, kind, after, function in _visit(ast.parse(source), None):
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = offsets[node.lineno - 1] + node.col_offset
        stop = offsets[node.end_lineno - 1] + node.end_col_offset
        before = source[start:stop].decode()
        if before != after:
            found.append(
                Mutant(file, node.lineno, node.end_lineno, start, stop, kind, before, after, function)
            )
    return sorted(found, key=lambda mutant: (mutant.start, mutant.stop, mutant.kind, mutant.after))


Located = ast.expr | ast.stmt
Lines = tuple[int, int] | None


def _visit(node: ast.AST, function: Lines) -> Iterator[tuple[Located, str, str, Lines]]:
    if isinstance(node, SKIPPED) or _is_sample_rule(node) or _is_type_checking(node):
        return
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        function = (node.lineno, node.end_lineno or node.lineno)
    if isinstance(node, ast.expr):
        for kind, after in _expressions(node):
            yield node, kind, f"({after})", function
    if isinstance(node, ast.stmt):
        for kind, after in _statements(node):
            yield node, kind, after, function
    for test in _tests(node):
        yield test, "condition negated", f"(not ({ast.unparse(test)}))", function
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            is_text = isinstance(child, ast.keyword) and child.arg in (*TEXTS, "sample")
            if isinstance(child, ast.AST) and not is_text:
                yield from _visit(child, function)


def _is_sample_rule(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    annotations = [arg.annotation for arg in node.args.args if arg.annotation is not None]
    return any("Sampler" in ast.unparse(annotation) for annotation in annotations)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _tests(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.IfExp):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    else:
        tests = []
    return [test for test in tests if not isinstance(test, ast.Compare) or len(test.ops) > 1]


def _expressions(node: ast.expr) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=right):
            for index, op in enumerate(ops):
                other = [*ops[:index], COMPARISONS[type(op)](), *ops[index + 1 :]]
                yield "comparison", ast.unparse(ast.Compare(left, other, right))
        case ast.BinOp(left=left_operand, op=op_, right=right_operand) if type(op_) in ARITHMETIC:
            yield "arithmetic", ast.unparse(ast.BinOp(left_operand, ARITHMETIC[type(op_)](), right_operand))
        case ast.BoolOp(op=ast.And(), values=values):
            yield "and to or", ast.unparse(ast.BoolOp(ast.Or(), values))
        case ast.BoolOp(op=ast.Or(), values=values):
            yield "or to and", ast.unparse(ast.BoolOp(ast.And(), values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "sign or not dropped", ast.unparse(operand)
        case ast.Constant(value=bool() as truth):
            yield "boolean", repr(not truth)
        case ast.Constant(value=int() | float() as number):
            yield "number", repr(number + 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in CALLED:
            yield "function", ast.unparse(ast.Call(ast.Name(CALLED[name]), args, keywords))
        case ast.Call(func=called, args=args, keywords=keywords) if len(args) > 1:
            for index in range(len(args) - 1):
                swapped = [*args[:index], args[index + 1], args[index], *args[index + 2 :]]
                if _may_be_mistaken(args[0], args[index], args[index + 1]):
                    yield "arguments exchanged", ast.unparse(ast.Call(called, swapped, keywords))


def _may_be_mistaken(first: ast.expr, left: ast.expr, right: ast.expr) -> bool:
    """Whether two neighbouring arguments could be taken for each other, and it would matter.

    No text, class or builder is taken for a tensor, and the operands of `mul` and `add` have no order.
    """
    if isinstance(first, ast.Constant) and first.value in ("mul", "add"):
        return False
    return not any(
        isinstance(arg, ast.Starred | ast.Lambda)
        or (isinstance(arg, ast.Constant) and isinstance(arg.value, str))
        or (isinstance(arg, ast.Attribute) and isinstance(arg.value, ast.Name) and arg.value.id[0].isupper())
        or (isinstance(arg, ast.Name) and (arg.id in CONTEXT or arg.id[0].isupper()))
        for arg in (left, right)
    )


def _statements(node: ast.stmt) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Return(value=value) if value is not None and ast.unparse(value) != "None":
            yield "return", "return None"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield "statement deleted", "pass"
