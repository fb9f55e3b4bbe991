"""The language server of `esperc lsp`: the protocol's requests, answered from analyses of open documents.

Documents are sent whole at each change. What is wrong is published shortly after the last of several
changes; every other answer is about the version that the editor sent last.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import redirect_stdout
from functools import partial
from types import FrameType

from lsprotocol import types as lsp
from pygls import uris
from pygls.lsp.server import LanguageServer

from esper import __version__
from esper.editors.analysis import Analysis
from esper.editors.completion import SORTS, Completion, complete
from esper.editors.documents import Documents
from esper.editors.fixes import fixes
from esper.editors.hover import hover
from esper.editors.navigation import definition
from esper.editors.outline import Symbol, outline
from esper.editors.positions import Positions
from esper.editors.problems import Problem, problems
from esper.errors import Span
from esper.lang import format_program

SOURCE = "esperc"
DELAY_S = 0.15
"""How long after a change what is wrong is published, if no other change follows."""

_ITEM_KINDS = {
    "argument": lsp.CompletionItemKind.Field,
    "value": lsp.CompletionItemKind.EnumMember,
    "name": lsp.CompletionItemKind.Variable,
    "blueprint": lsp.CompletionItemKind.Module,
    "operator": lsp.CompletionItemKind.Function,
    "keyword": lsp.CompletionItemKind.Keyword,
}
_SYMBOL_KINDS = {
    "blueprint": lsp.SymbolKind.Function,
    "parameter": lsp.SymbolKind.TypeParameter,
    "input": lsp.SymbolKind.Variable,
    "output": lsp.SymbolKind.Property,
}


class BlueprintServer(LanguageServer):
    """The server's state: the open documents, what is to be published, whether an end was asked for."""

    def __init__(self) -> None:
        super().__init__(SOURCE, __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.documents = Documents()
        self.pending: dict[str, asyncio.TimerHandle] = {}
        self.is_shut_down = False

    def positions(self, analysis: Analysis) -> Positions:
        return Positions(analysis.source, str(self.workspace.position_encoding or "utf-16"))

    def asked(self, uri: str) -> tuple[Analysis, Positions] | None:
        """What is known of a document, with its positions; None of one that is not open."""
        analysis = self.documents.analysis(uri)
        return None if analysis is None else (analysis, self.positions(analysis))

    def put(self, uri: str, version: int, text: str) -> None:
        self.documents.put(uri, _file_of(uri), version, text)

    def publish(self, uri: str) -> None:
        """Sends what is wrong with a document; nothing is, with one that is closed."""
        self.cancel(uri)
        found: list[lsp.Diagnostic] = []
        version = None
        if asked := self.asked(uri):
            analysis, positions = asked
            version = self.documents.opened[uri].version
            found = [_diagnostic(uri, analysis, positions, problem) for problem in problems(analysis)]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, found, version))

    def publish_soon(self, uri: str) -> None:
        self.cancel(uri)
        self.pending[uri] = asyncio.get_running_loop().call_later(DELAY_S, partial(self.publish, uri))

    def cancel(self, uri: str) -> None:
        waiting = self.pending.pop(uri, None)
        if waiting is not None:
            waiting.cancel()


def serve() -> int:
    """Speaks the protocol on stdin and stdout to its end. Returns the exit code: 0 after `shutdown`.

    Nothing else reaches stdout: what is printed goes to stderr.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    server = make_server()
    # A copy of the descriptor: the server closes what it writes to, and Python flushes its stdout at exit.
    with open(os.dup(sys.stdout.fileno()), "wb") as stdout, redirect_stdout(sys.stderr):
        server.start_io(sys.stdin.buffer, stdout)
    return 0 if server.is_shut_down else 1


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: the thread that waits for stdin would keep an orderly end from happening."""
    os._exit(128 + number)


def make_server() -> BlueprintServer:
    """A server with all that it answers."""
    server = BlueprintServer()
    _follow_documents(server)
    _answer_about_names(server)
    _answer_about_documents(server)
    return server


def _follow_documents(server: BlueprintServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def _(params: lsp.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        server.put(document.uri, document.version, document.text)
        server.publish(document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def _(params: lsp.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        if params.content_changes and uri in server.documents.opened:
            server.put(uri, params.text_document.version, params.content_changes[-1].text)
            server.publish_soon(uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def _(params: lsp.DidSaveTextDocumentParams) -> None:
        _changed(server, params.text_document.uri)

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def _(params: lsp.DidChangeWatchedFilesParams) -> None:
        for change in params.changes:
            _changed(server, change.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def _(params: lsp.DidCloseTextDocumentParams) -> None:
        server.documents.close(params.text_document.uri)
        server.publish(params.text_document.uri)

    @server.feature(lsp.SHUTDOWN)
    def _(_: None) -> None:
        server.is_shut_down = True


def _changed(server: BlueprintServer, uri: str) -> None:
    """A file changed on disk: what imports it is looked at again."""
    for importer in server.documents.forget_importers(_file_of(uri)):
        server.publish_soon(importer)


def _answer_about_names(server: BlueprintServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def _(params: lsp.HoverParams) -> lsp.Hover | None:
        asked = server.asked(params.text_document.uri)
        if asked is None:
            return None
        analysis, positions = asked
        found = hover(analysis, _offset(positions, params.position))
        if found is None:
            return None
        return lsp.Hover(_markdown(found.markdown), _range(positions, found.span))

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def _(params: lsp.DefinitionParams) -> lsp.Location | None:
        asked = server.asked(params.text_document.uri)
        if asked is None:
            return None
        analysis, positions = asked
        span = definition(analysis, _offset(positions, params.position))
        return None if span is None else _location(params.text_document.uri, analysis, positions, span)

    @server.feature(
        lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=["(", ",", "=", ":", ">"])
    )
    def _(params: lsp.CompletionParams) -> lsp.CompletionList:
        asked = server.asked(params.text_document.uri)
        if asked is None:
            return lsp.CompletionList(False, [])
        analysis, positions = asked
        offset = _offset(positions, params.position)
        items = [_item(positions, offset, found) for found in complete(analysis, offset)]
        return lsp.CompletionList(False, items)


def _answer_about_documents(server: BlueprintServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def _(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        asked = server.asked(params.text_document.uri)
        if asked is None or not asked[0].insight.has_syntax:
            return []
        analysis, positions = asked
        text = format_program(analysis.source, analysis.program)
        if text == analysis.source.text:
            return []
        return [lsp.TextEdit(_stretch(positions, 0, len(analysis.source.text)), text)]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def _(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        asked = server.asked(params.text_document.uri)
        return [] if asked is None else [_symbol(asked[1], symbol) for symbol in outline(asked[0])]

    @server.feature(
        lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix])
    )
    def _(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri = params.text_document.uri
        asked = server.asked(uri)
        if asked is None:
            return []
        analysis, positions = asked
        start, end = (_offset(positions, place) for place in (params.range.start, params.range.end))
        return [
            lsp.CodeAction(
                fix.title,
                kind=lsp.CodeActionKind.QuickFix,
                is_preferred=True,
                edit=lsp.WorkspaceEdit(
                    {uri: [lsp.TextEdit(_stretch(positions, fix.start, fix.end), fix.text)]}
                ),
            )
            for fix in fixes(analysis, start, end)
        ]


def _file_of(uri: str) -> str:
    """The path that `uri` names; a text that is not in a file is called by its URI."""
    return (uris.to_fs_path(uri) if uri.startswith("file:") else None) or uri


def _offset(positions: Positions, position: lsp.Position) -> int:
    return positions.offset(position.line, position.character)


def _stretch(positions: Positions, start: int, end: int) -> lsp.Range:
    return lsp.Range(lsp.Position(*positions.position(start)), lsp.Position(*positions.position(end)))


def _range(positions: Positions, span: Span) -> lsp.Range:
    return _stretch(positions, positions.start_of(span), positions.end_of(span))


def _location(uri: str, analysis: Analysis, positions: Positions, span: Span) -> lsp.Location:
    """A place in this document, or in a file that it imports."""
    if span.file == analysis.source.file:
        return lsp.Location(uri, _range(positions, span))
    there = uris.from_fs_path(os.path.abspath(span.file)) or span.file
    source = analysis.unit.sources.get(span.file)
    if source is None:
        top = lsp.Position(0, 0)
        return lsp.Location(there, lsp.Range(top, top))
    return lsp.Location(there, _range(Positions(source, positions.encoding), span))


def _markdown(text: str) -> lsp.MarkupContent:
    return lsp.MarkupContent(lsp.MarkupKind.Markdown, text)


def _diagnostic(uri: str, analysis: Analysis, positions: Positions, problem: Problem) -> lsp.Diagnostic:
    related = [
        lsp.DiagnosticRelatedInformation(_location(uri, analysis, positions, note.span), note.message)
        for note in problem.related
    ]
    return lsp.Diagnostic(
        _range(positions, problem.span),
        problem.message,
        severity=lsp.DiagnosticSeverity.Error if problem.is_error else lsp.DiagnosticSeverity.Warning,
        code=problem.code,
        source=SOURCE,
        tags=[lsp.DiagnosticTag.Unnecessary] if problem.is_unused else None,
        related_information=related or None,
    )


def _item(positions: Positions, offset: int, found: Completion) -> lsp.CompletionItem:
    return lsp.CompletionItem(
        found.label,
        kind=_ITEM_KINDS[found.sort],
        detail=found.detail or None,
        documentation=_markdown(found.markdown) if found.markdown else None,
        sort_text=f"{SORTS.index(found.sort)}{found.label}",
        text_edit=lsp.TextEdit(_stretch(positions, found.start, offset), found.text),
    )


def _symbol(positions: Positions, symbol: Symbol) -> lsp.DocumentSymbol:
    return lsp.DocumentSymbol(
        symbol.name,
        _SYMBOL_KINDS[symbol.kind],
        _range(positions, symbol.span),
        _range(positions, symbol.name_span),
        detail=symbol.detail or None,
        children=[_symbol(positions, child) for child in symbol.children],
    )
