"""A comparison as one page of HTML that needs nothing else: tables, and figures drawn into it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from vcfbert.reports.plots import svg_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.worse { color: #b00020; font-weight: 600; } td.better { color: #00704a; font-weight: 600; }
svg { max-width: 100%; height: auto; }
p { max-width: 50rem; color: #555; }
"""


def comparison_page(
    title: str, tables: Iterable[tuple[str, Sequence[Sequence[str]]]], figures: Iterable[tuple[str, Figure]], notes: str
) -> str:
    """``tables``: title and lines, the first of which is the header; ``figures``: what each shows, and the figure."""
    name = html.escape(title)
    parts = [_table(shows, lines) for shows, lines in tables]
    for shows, figure in figures:
        label = html.escape(shows)
        parts.append(f'<h2>{label}</h2>\n<div role="img" aria-label="{label}" class="wide">{svg_text(figure)}</div>')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en">\n<head>{head}<style>{_STYLE}</style></head>\n<body>',
            f"<h1>{name}</h1>",
            *parts,
            f"<p>{html.escape(notes)}</p>\n</body>\n</html>\n",
        ]
    )


def _table(title: str, lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    rows = ["".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)]
    rows += ["".join(map(_cell, line)) for line in body]
    inner = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<h2>{html.escape(title)}</h2>\n<div class="wide"><table>\n{inner}\n</table></div>'


def _cell(text: str) -> str:
    """What is worse or better beyond its interval stands out."""
    verdict = next((name for name in ("worse", "better") if text.endswith(f", {name}")), None)
    return f'<td class="{verdict}">{html.escape(text)}</td>' if verdict else f"<td>{html.escape(text)}</td>"
