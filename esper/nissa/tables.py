"""HTML tables and key figures from plain values; every cell is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A cell's text, and its class: `number` to the right, `wrap` for prose, `yes`, `no`."""

    text: str
    css: str = ""


@dataclass(frozen=True)
class KeyFigure:
    """A figure large, what it is above it, what to know of it below."""

    name: str
    value: str
    note: str = ""


def table(headings: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls sideways where the page is narrow."""
    head = "".join(_cell("th", cell) for cell in headings)
    body = "".join(f"<tr>{''.join(_cell('td', cell) for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def key_figures(figures: Iterable[KeyFigure]) -> str:
    """The figures side by side."""
    items = "".join(
        f"<div><dt>{escape(f.name)}</dt><dd>{escape(f.value)}<small>{escape(f.note)}</small></dd></div>"
        for f in figures
    )
    return f'<dl class="figures">{items}</dl>'


def number(value: float | None, digits: int | None = None) -> Cell:
    """A number to the right: grouped if whole, else with `digits` decimals; a dash for None."""
    return Cell(numeral(value, digits), "number")


def numeral(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return MISSING
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,d}" if isinstance(value, int) else f"{value:.4g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in 0..1 as percent."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of shares in 0..1 as signed percentage points."""
    return MISSING if value is None else f"{100 * value:+.1f}"


def _cell(tag: str, cell: Cell) -> str:
    css = f' class="{cell.css}"' if cell.css else ""
    return f"<{tag}{css}>{escape(cell.text)}</{tag}>"
