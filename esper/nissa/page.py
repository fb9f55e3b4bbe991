"""The report's page: its style sheet, and the frame around the sections.

Nothing is loaded from anywhere. Colours are variables with a light and a dark set; the blues and the
green of the stages differ in lightness too, so that they can be told apart without colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
:root {
  --paper: #fdfdfc; --ink: #1d2125; --soft: #5d666e; --hair: #e3e5e6; --wash: #f5f6f6;
  --c1: #0b62a8; --c2: #b45309; --c3: #6b7280; --c4: #7c3f98; --c5: #0f766e; --c6: #a3154a;
  --train: #0b62a814; --place: #0b62a82e; --kept: #13714f; --gone: #b3360b;
  --germinated: #dfe9f2; --training: #b5d0e7; --blending: #7eaed6; --shadowing: #4686b8;
  --probationary: #1e5c92; --fossilized: #13714f; --embargoed: #cfcac3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e4e6e7; --soft: #9aa4ac; --hair: #2b3136; --wash: #1b1f23;
    --c1: #6db3f2; --c2: #f0a35e; --c3: #9aa4ac; --c4: #c79ae0; --c5: #5cc8bb; --c6: #f07aa5;
    --train: #6db3f218; --place: #6db3f233; --kept: #5fc99b; --gone: #f58a5c;
    --germinated: #22303c; --training: #24506f; --blending: #2f719f; --shadowing: #4b94c6;
    --probationary: #86bfe6; --fossilized: #4fb98c; --embargoed: #4a4742;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1040px; margin: 0 auto; padding: 48px 32px 72px; }
header p { color: var(--soft); margin: 4px 0 0; }
h1 { font-size: 26px; line-height: 1.25; font-weight: 620; letter-spacing: -0.01em; margin: 0; }
h2 { font-size: 17px; font-weight: 620; margin: 48px 0 6px; }
h3 { font-size: 14px; font-weight: 600; margin: 24px 0 4px; }
p { margin: 8px 0; max-width: 74ch; }
.quiet { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 0 28px;
  margin: 32px 0 0; padding: 0; border-top: 1px solid var(--hair); }
.figures div { padding: 14px 0 12px; border-bottom: 1px solid var(--hair); }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 2px 0 0; font-size: 22px; line-height: 1.35; font-weight: 560;
  letter-spacing: -0.01em; white-space: nowrap; }
.figures small { display: block; font-size: 13px; font-weight: 400; letter-spacing: 0;
  white-space: normal; color: var(--soft); }
svg { display: block; width: 100%; height: auto; margin: 4px 0 0; overflow: visible; }
svg text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: var(--ink);
  font-variant-numeric: tabular-nums; }
svg text.tick { fill: var(--soft); }
svg text.rowname { font-size: 13px; }
.grid { stroke: var(--hair); } .axis { stroke: var(--soft); stroke-width: 1; }
.threshold { stroke: var(--gone); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 2 5; }
.whisker { stroke: var(--c1); stroke-width: 2; }
path.c1, i.c1 { stroke: var(--c1); border-color: var(--c1); } circle.c1 { fill: var(--c1); }
path.c2, i.c2 { stroke: var(--c2); border-color: var(--c2); } circle.c2 { fill: var(--c2); }
path.c3, i.c3 { stroke: var(--c3); border-color: var(--c3); } circle.c3 { fill: var(--c3); }
path.c4, i.c4 { stroke: var(--c4); border-color: var(--c4); } circle.c4 { fill: var(--c4); }
path.c5, i.c5 { stroke: var(--c5); border-color: var(--c5); } circle.c5 { fill: var(--c5); }
path.c6, i.c6 { stroke: var(--c6); border-color: var(--c6); } circle.c6 { fill: var(--c6); }
.faint { opacity: 0.35; } .hollow { fill: none; stroke: var(--gone); opacity: 0.6; }
svg.mark { display: inline-block; width: 12px; margin: 0 6px 0 0; vertical-align: -1px; }
.shade-train { fill: var(--train); } .shade-place { fill: var(--place); }
.verdict { stroke-width: 1.5; } .verdict.kept { stroke: var(--kept); }
.verdict.gone { stroke: var(--gone); stroke-dasharray: 4 3; }
svg text.note { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
svg text.kept { fill: var(--kept); } svg text.gone { fill: var(--gone); }
.stage { stroke: var(--paper); stroke-width: 1.5; }
.stage-dormant { fill: var(--wash); }
.stage-germinated { fill: var(--germinated); } .stage-training { fill: var(--training); }
.stage-blending { fill: var(--blending); } .stage-shadowing { fill: var(--shadowing); }
.stage-probationary { fill: var(--probationary); } .stage-fossilized { fill: var(--fossilized); }
.stage-embargoed { fill: var(--embargoed); }
svg text.on-shadowing, svg text.on-probationary, svg text.on-fossilized { fill: var(--paper); }
.legend { margin: 6px 0 0; max-width: none; font-size: 13px; color: var(--soft); }
.key { margin-right: 20px; white-space: nowrap; }
.key i { display: inline-block; width: 22px; border-width: 2px 0 0; border-style: solid;
  margin-right: 7px; vertical-align: 4px; }
.key i.dashed { border-top-style: dotted; }
.key b { display: inline-block; width: 14px; height: 12px; margin-right: 7px; vertical-align: -1px; }
b.train { background: var(--train); } b.place { background: var(--place); }
b.germinated { background: var(--germinated); }
b.training { background: var(--training); }
b.blending { background: var(--blending); }
b.shadowing { background: var(--shadowing); }
b.probationary { background: var(--probationary); }
b.fossilized { background: var(--fossilized); }
b.embargoed { background: var(--embargoed); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0 4px; font-size: 13.5px; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 12.5px; vertical-align: bottom; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--hair); white-space: nowrap; }
td.wrap { white-space: normal; min-width: 220px; }
th:last-child, td:last-child { padding-right: 0; }
th.number, td.number { text-align: right; }
td.yes { color: var(--kept); } td.no { color: var(--gone); }
code { font: 12.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { overflow-x: auto; margin: 6px 0; padding: 10px 14px; background: var(--wash); }
footer { margin-top: 56px; padding-top: 12px; border-top: 1px solid var(--hair); font-size: 13px;
  color: var(--soft); }
footer p { max-width: none; }
@media print {
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  svg, table { break-inside: avoid; }
}
"""


def page(title: str, subtitle: str, sections: Iterable[str], footer: str) -> str:
    """A whole HTML document. `title` and `subtitle` are text; sections and footer are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
        + "\n".join(sections)
        + f"\n<footer>{footer}</footer>\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, *body: str, note: str = "") -> str:
    """A section with its heading, an explaining line if there is one, and its HTML."""
    explained = f'<p class="quiet">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(heading)}</h2>{explained}{''.join(body)}</section>"
