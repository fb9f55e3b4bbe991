"""The words and signs of the grammar by what they do, as names of its terminals."""

from __future__ import annotations

STATEMENT_STARTS = frozenset({"CONSTRAINT", "IF", "INPUT", "LET", "OUTPUT", "PRECISION", "REPEAT", "REQUIRE"})
KEYWORDS = STATEMENT_STARTS | {
    *("AND", "AS", "BLUEPRINT", "CHOICE", "ELSE", "FALSE", "IMPORT", "IN", "NOT", "ON", "OR", "STEP", "TRUE")
}
INFIX = frozenset({"COMPARISON", "PLUS", "MINUS", "TIMES", "FACTOR", "POWER", "PIPE", "AND", "OR"})
