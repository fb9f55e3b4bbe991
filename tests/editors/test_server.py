"""`esperc lsp` as an editor starts it: a process that is spoken to in the protocol, by pygls' client."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from tests.editors.marked import LIBRARY

COMMAND = [sys.executable, "-m", "esper.cli.esperc", "lsp"]
TIMEOUT_S = 120

BLOCK = """## Ein Blöckchen 𝔸.
blueprint block(width: dim = 64) {
    input x: f32[N, width]
    require width != 7: "𝔸𝔸"  let hidden = 2 * width
    h = x |> linear(hidden) |> gelu()
    output x + linear(h, widht)
}
"""


class Editor:
    """A client that keeps what the server publishes."""

    def __init__(self) -> None:
        self.client = LanguageClient("editor", "1")
        self.published: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()
        self.failures: list[str] = []

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)  # type: ignore[untyped-decorator]
        def _(params: lsp.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(params)

        @self.client.feature(lsp.WINDOW_SHOW_MESSAGE)  # type: ignore[untyped-decorator]
        def _(params: lsp.ShowMessageParams) -> None:
            self.failures.append(params.message)

        self.client.report_server_error = self._note  # type: ignore[method-assign]

    def _note(self, error: Exception, source: object) -> None:
        self.failures.append(str(error))

    def open(self, uri: str, text: str) -> None:
        document = lsp.TextDocumentItem(uri, "esper", 1, text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(document))

    def change(self, uri: str, version: int, text: str) -> None:
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                lsp.VersionedTextDocumentIdentifier(version, uri),
                [lsp.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    async def diagnostics(self, uri: str, version: int | None = None) -> list[lsp.Diagnostic]:
        """What is published of a document, at `version` if that is given."""
        while True:
            found = await asyncio.wait_for(self.published.get(), TIMEOUT_S)
            if found.uri == uri and version in (None, found.version):
                return list(found.diagnostics)


@asynccontextmanager
async def editor(encodings: list[lsp.PositionEncodingKind] | None = None) -> AsyncIterator[Editor]:
    """A server that is initialised; at the end it is shut down and must leave with 0."""
    found = Editor()
    await found.client.start_io(*COMMAND)
    general = lsp.GeneralClientCapabilities(position_encodings=encodings) if encodings else None
    await found.client.initialize_async(lsp.InitializeParams(lsp.ClientCapabilities(general=general)))
    found.client.initialized(lsp.InitializedParams())
    yield found
    await found.client.shutdown_async(None)
    found.client.exit(None)
    process = found.client._server
    assert process is not None
    assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
    assert found.failures == []
    await found.client.stop()  # type: ignore[no-untyped-call]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 5 * TIMEOUT_S))


def test_an_editor_is_told_of_mistakes_types_places_and_layout(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(BLOCK, encoding="utf-8")
    uri = path.as_uri()
    document = lsp.TextDocumentIdentifier(uri)

    async def test() -> None:
        async with editor() as found:
            found.open(uri, BLOCK)
            [mistake] = await found.diagnostics(uri)
            assert (mistake.code, mistake.source, mistake.severity) == (
                "E0202",
                "esperc",
                lsp.DiagnosticSeverity.Error,
            )
            assert mistake.range == lsp.Range(lsp.Position(5, 25), lsp.Position(5, 30))
            assert "did you mean `width`?" in mistake.message

            # `hidden` stands behind two characters of two UTF-16 units each.
            hovered = await found.client.text_document_hover_async(
                lsp.HoverParams(document, lsp.Position(3, 36))
            )
            assert hovered is not None and isinstance(hovered.contents, lsp.MarkupContent)
            assert "let hidden = 2*width" in hovered.contents.value
            assert hovered.range == lsp.Range(lsp.Position(3, 36), lsp.Position(3, 42))

            led = await found.client.text_document_definition_async(
                lsp.DefinitionParams(document, lsp.Position(4, 22))
            )
            assert led == lsp.Location(uri, lsp.Range(lsp.Position(3, 36), lsp.Position(3, 42)))

            offered = await found.client.text_document_completion_async(
                lsp.CompletionParams(document, lsp.Position(4, 22))
            )
            assert isinstance(offered, lsp.CompletionList)
            labels = {item.label for item in offered.items}
            assert {"hidden", "width", "h", "x", "bias=", "linear"} - labels == {"h"}

            symbols = await found.client.text_document_document_symbol_async(
                lsp.DocumentSymbolParams(document)
            )
            assert symbols is not None
            [blueprint] = symbols
            assert isinstance(blueprint, lsp.DocumentSymbol) and blueprint.children is not None
            assert [child.name for child in blueprint.children] == ["width", "x", "result"]

            actions = await found.client.text_document_code_action_async(
                lsp.CodeActionParams(document, mistake.range, lsp.CodeActionContext([mistake]))
            )
            assert actions is not None
            [action] = actions
            assert isinstance(action, lsp.CodeAction) and action.edit is not None
            assert action.edit.changes is not None
            assert [*action.edit.changes[uri]] == [lsp.TextEdit(mistake.range, "width")]

            edits = await found.client.text_document_formatting_async(
                lsp.DocumentFormattingParams(document, lsp.FormattingOptions(4, True))
            )
            assert edits is not None and len(edits) == 1
            assert '"𝔸𝔸"\n    let hidden' in edits[0].new_text

            found.change(uri, 2, BLOCK.replace("widht", "width"))
            assert await found.diagnostics(uri, 2) == []
            found.client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))
            assert await found.diagnostics(uri) == []

    run(test)


def test_columns_are_those_of_the_encoding_that_was_agreed_on() -> None:
    uri = "untitled:block"

    async def test() -> None:
        async with editor([lsp.PositionEncodingKind.Utf8]) as found:
            found.open(uri, BLOCK)
            await found.diagnostics(uri)
            hovered = await found.client.text_document_hover_async(
                lsp.HoverParams(lsp.TextDocumentIdentifier(uri), lsp.Position(3, 40))
            )
            assert hovered is not None
            assert hovered.range == lsp.Range(lsp.Position(3, 40), lsp.Position(3, 46))

    run(test)


@pytest.mark.parametrize("uri", ["untitled:a b", "file:///nowhere/a%40b%20%C3%A9/x.esp"])
def test_a_document_that_is_in_no_file_is_called_as_the_editor_calls_it(uri: str) -> None:
    twice = "blueprint a() { input x: f32[N] output x }\n" * 2

    async def test() -> None:
        async with editor() as found:
            found.open(uri, twice)
            [mistake] = await found.diagnostics(uri)
            assert mistake.related_information is not None
            assert [related.location.uri for related in mistake.related_information] == [uri]
            led = await found.client.text_document_definition_async(
                lsp.DefinitionParams(lsp.TextDocumentIdentifier(uri), lsp.Position(0, 40))
            )
            assert led == lsp.Location(uri, lsp.Range(lsp.Position(0, 22), lsp.Position(0, 23)))

    run(test)


def test_a_file_that_changes_is_seen_by_what_imports_it(tmp_path: Path) -> None:
    text = 'import "part.esp"\nblueprint whole() {\n    input x: f32[N, 8]\n    output part(x)\n}\n'
    part = "blueprint part(width: dim = 8) {\n    input x: f32[N, width]\n    output x + x\n}\n"
    path, imported = tmp_path / "whole.esp", tmp_path / "part.esp"
    uri = path.as_uri()

    async def test() -> None:
        async with editor() as found:
            found.open(uri, text)
            assert [d.code for d in await found.diagnostics(uri)] != []
            imported.write_text(part, encoding="utf-8")
            changed = lsp.FileEvent(imported.as_uri(), lsp.FileChangeType.Created)
            found.client.workspace_did_change_watched_files(lsp.DidChangeWatchedFilesParams([changed]))
            assert await found.diagnostics(uri) == []
            led = await found.client.text_document_definition_async(
                lsp.DefinitionParams(lsp.TextDocumentIdentifier(uri), lsp.Position(3, 12))
            )
            assert led == lsp.Location(imported.as_uri(), lsp.Range(lsp.Position(0, 10), lsp.Position(0, 14)))
            imported.write_text(part.replace("x + x", "x + "), encoding="utf-8")
            found.client.text_document_did_save(
                lsp.DidSaveTextDocumentParams(lsp.TextDocumentIdentifier(imported.as_uri()))
            )
            assert [d.code for d in await found.diagnostics(uri)] != []

    run(test)


def spoken(messages: list[dict[str, Any]], *, code: int) -> list[dict[str, Any]]:
    """What a server that is sent `messages` answers; all of its stdout, which must be protocol alone."""
    sent = b""
    for message in messages:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        sent += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    finished = subprocess.run(COMMAND, input=sent, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert finished.returncode == code, finished.stderr.decode()
    rest, answers = finished.stdout, []
    while rest:
        header = re.match(rb"Content-Length: (\d+)\r\n(?:Content-Type: [^\r]*\r\n)?\r\n", rest)
        assert header is not None, rest[:200]
        end = header.end() + int(header[1])
        answers.append(json.loads(rest[header.end() : end]))
        rest = rest[end:]
    return answers


INITIALIZE = {"id": 1, "method": "initialize", "params": {"processId": None, "capabilities": {}}}
SHUTDOWN = {"id": 2, "method": "shutdown"}
EXIT = {"method": "exit"}


def opened(text: str, uri: str = "untitled:x") -> dict[str, Any]:
    document = {"uri": uri, "languageId": "esper", "version": 1, "text": text}
    return {"method": "textDocument/didOpen", "params": {"textDocument": document}}


def test_stdout_holds_the_protocol_alone_and_shutdown_ends_with_0() -> None:
    answers = spoken([INITIALIZE, opened("blueprint ("), SHUTDOWN, EXIT], code=0)
    assert [answer.get("id", answer.get("method")) for answer in answers] == [
        1,
        "textDocument/publishDiagnostics",
        2,
    ]
    assert answers[0]["result"]["capabilities"]["hoverProvider"]


@pytest.mark.parametrize("last", [[EXIT], []], ids=["exit", "the end of stdin"])
def test_an_end_without_shutdown_is_told_by_1(last: list[dict[str, Any]]) -> None:
    spoken([INITIALIZE, *last], code=1)


def asked_of_all(line: int, column: int, uri: str, first: int) -> list[dict[str, Any]]:
    """Every request that the server answers, about one place; their ids count from `first`."""
    document, place = {"uri": uri}, {"line": line, "character": column}
    params: dict[str, dict[str, Any]] = {
        "hover": {"position": place},
        "definition": {"position": place},
        "completion": {"position": place},
        "documentSymbol": {},
        "codeAction": {"range": {"start": place, "end": place}, "context": {"diagnostics": []}},
        "formatting": {"options": {"tabSize": 4, "insertSpaces": True}},
    }
    return [
        {
            "id": first + number,
            "method": f"textDocument/{method}",
            "params": {"textDocument": document, **given},
        }
        for number, (method, given) in enumerate(params.items())
    ]


NESTED = f"blueprint b() {{ input x: f32[N] output {'(' * 900}x{')' * 900} }}"
BAD_TEXTS = {
    "empty": "",
    "mark": "\ufeff",
    "nul": "\0",
    "surrogate": "\ud800",
    "wide": "𝔸" * 1000,
    "brackets": "(" * 100_000,
    "open": "blueprint b() { " + "x = (" * 20_000,
    "line ends": "\r\r\n" * 9,
    "nested": NESTED,
}


def test_bad_text_is_answered_without_a_failure() -> None:
    asked: list[dict[str, Any]] = []
    for number, (name, text) in enumerate(BAD_TEXTS.items(), start=1):
        uri = f"untitled:{name}"
        asked += [opened(text, uri), *asked_of_all(0, 41, uri, 10 * number)]
    answers = spoken([INITIALIZE, *asked, SHUTDOWN, EXIT], code=0)
    assert not any("error" in answer for answer in answers)
    assert {answer["id"] for answer in answers if "id" in answer} == {
        1,
        2,
        *(message["id"] for message in asked if "id" in message),
    }
    published = [answer["params"] for answer in answers if "id" not in answer]
    with_diagnostics = {params["uri"] for params in published if params["diagnostics"]}
    assert len(published) == len(BAD_TEXTS)
    assert with_diagnostics == {f"untitled:{name}" for name in BAD_TEXTS if name != "nested"}


def test_every_prefix_of_a_blueprint_is_answered() -> None:
    """As if typed, with every request at the end of each prefix."""
    text, uri = LIBRARY["norm"].text, "untitled:typed"
    asked = [opened("", uri)]
    for end in range(len(text) + 1):
        typed = text[:end]
        change = {"textDocument": {"uri": uri, "version": end + 2}, "contentChanges": [{"text": typed}]}
        asked.append({"method": "textDocument/didChange", "params": change})
        asked += asked_of_all(typed.count("\n"), len(typed.rpartition("\n")[2]), uri, 10 * end + 10)
    answers = spoken([INITIALIZE, *asked, SHUTDOWN, EXIT], code=0)
    assert not any("error" in answer for answer in answers)
    wanted = {message["id"] for message in asked if "id" in message}
    assert {answer["id"] for answer in answers if "id" in answer} == {1, 2, *wanted}
    notifications = {answer["method"] for answer in answers if "id" not in answer}
    assert notifications == {"textDocument/publishDiagnostics"}


def test_a_request_about_a_document_that_is_not_open_is_answered() -> None:
    answers = spoken([INITIALIZE, *asked_of_all(0, 0, "untitled:gone", 10), SHUTDOWN, EXIT], code=0)
    assert not any("error" in answer for answer in answers)


def test_the_server_loads_neither_torch_nor_triton() -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted({'torch', 'triton'} & set(sys.modules)), file=sys.stderr))\n"
        "from esper.cli.esperc import main\n"
        "main(['lsp', '--stdio'])\n"
    )
    text = LIBRARY["attention"].text
    sent = b""
    for message in [INITIALIZE, opened(text), SHUTDOWN, EXIT]:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        sent += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    finished = subprocess.run(
        [sys.executable, "-c", script], input=sent, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert (finished.returncode, finished.stderr.decode().strip()) == (0, "")


@pytest.mark.parametrize("package", ["pygls", "lsprotocol"])
def test_a_missing_package_is_told_with_the_extra_that_brings_it(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from esper.cli.esperc import main; main(['lsp'])"
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (finished.returncode, finished.stdout) == (3, "")
    assert "error[E0001]: `pygls` is not installed" in finished.stderr
    assert "pip install 'esper-toolchain[editors]'" in finished.stderr


def test_a_server_that_is_told_to_end_ends_though_stdin_is_open() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        body = json.dumps({"jsonrpc": "2.0", **INITIALIZE}).encode()
        process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"Content-Length")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 143
