"""The blueprint language: from `.esp` source to the IR, and everything said about mistakes on the way.

Owns the syntax tree, diagnostics, elaboration, and the library's look-up. It knows the operator table and
the IR, but no pass, no kernel and no torch. The grammar is `grammar/blueprint.lark`.
"""

from pathlib import Path

import esper.ops as _operators  # fills the operator table
from esper.lang.ast import Program
from esper.lang.diagnostics import BlueprintRejected, Diagnostic, Note, Report
from esper.lang.domains import Interval
from esper.lang.fit import fit
from esper.lang.format import format_file, format_program, format_source
from esper.lang.insight import Insight, inspect_source
from esper.lang.library import LibraryEntry, library, library_entry, load
from esper.lang.lower import Checked, check, check_files, lower, lower_loaded, signature
from esper.lang.parameters import ParameterInfo, ParameterValue, Signature, parse_settings
from esper.lang.parse import parse
from esper.lang.render import as_github, as_json, as_sarif, as_text
from esper.lang.rewrite import rewrite_defaults
from esper.lang.sizes import SizeValue, parse_size_settings, size_values
from esper.lang.source import Source
from esper.lang.statements import Bound
from esper.lang.units import parse_file

__all__ = [
    "BlueprintRejected",
    "Bound",
    "Checked",
    "Diagnostic",
    "Insight",
    "Interval",
    "LibraryEntry",
    "Note",
    "ParameterInfo",
    "ParameterValue",
    "Program",
    "Report",
    "Signature",
    "SizeValue",
    "Source",
    "as_github",
    "as_json",
    "as_sarif",
    "as_text",
    "check",
    "check_files",
    "fit",
    "format_file",
    "format_program",
    "format_source",
    "inspect_source",
    "library",
    "library_entry",
    "load",
    "lower",
    "lower_loaded",
    "parse_file",
    "parse_settings",
    "parse_size_settings",
    "parse_source",
    "rewrite_defaults",
    "signature",
    "size_values",
]

del _operators


def parse_source(text: str, file: str | Path = "<source>") -> tuple[Program, list[Diagnostic]]:
    """The syntax tree of `text`, as far as it can be read, and what is wrong with its syntax."""
    source = Source(str(file), text)
    report = Report(source.file)
    return parse(source, report), report.diagnostics
