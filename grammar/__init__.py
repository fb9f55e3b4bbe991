"""Lark grammars: of the blueprint language, and of the textual form of its IR.

They are data, read through `esper.resources`; nothing is imported from here. `blueprint.json` holds the
tables of the parser, which follow from `blueprint.lark`: `make docs` writes it.
"""
