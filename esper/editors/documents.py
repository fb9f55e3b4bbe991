"""The documents that are open in an editor, each version analysed at most once and only when asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from esper.editors.analysis import Analysis
from esper.lang import Source


@dataclass(slots=True)
class Document:
    """The text of one version. file: the path, or what else names a text that is not in a file."""

    file: str
    version: int
    text: str
    analysis: Analysis | None = None


@dataclass(slots=True)
class Documents:
    """By URI. analyses: how many were made so far."""

    opened: dict[str, Document] = field(default_factory=dict)
    analyses: int = 0

    def put(self, uri: str, file: str, version: int, text: str) -> None:
        """Opens a document, or sets its next version. A byte order mark is no part of a text."""
        shown = f" {text[1:]}" if text.startswith("\ufeff") else text
        self.opened[uri] = Document(file, version, shown)

    def close(self, uri: str) -> None:
        self.opened.pop(uri, None)

    def analysis(self, uri: str) -> Analysis | None:
        """What is known of the last version; None of a document that is not open."""
        document = self.opened.get(uri)
        if document is None:
            return None
        if document.analysis is None:
            self.analyses += 1
            document.analysis = Analysis.of(Source(document.file, document.text))
        return document.analysis

    def forget_importers(self, file: str) -> list[str]:
        """The open documents that import something, which `file`, changed on disk, may concern."""
        changed = os.path.realpath(file)
        uris = [
            uri
            for uri, document in self.opened.items()
            if document.analysis is not None
            and document.analysis.program.imports
            and os.path.realpath(document.file) != changed
        ]
        for uri in uris:
            self.opened[uri].analysis = None
        return uris
