"""Renders a comparison as one self-contained HTML page with tables and inline SVG figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vcfbert.reports.drawing import svg_text


def comparison_page(
    title: str, tables: Iterable[tuple[str, Sequence[Sequence[str]]]], figures: Iterable[tuple[str, Figure]], notes: str
) -> str:
    """``tables``: title and lines; the first line is the header. ``figures``: title and figure."""
    environment = Environment(
        loader=PackageLoader("vcfbert.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("comparison.html").render(
        title=title,
        tables=list(tables),
        figures=[(name, Markup(svg_text(figure))) for name, figure in figures],  # SVG of our own, not user text
        notes=notes,
        verdict=_verdict,
    )


def _verdict(cell: str) -> str | None:
    """CSS class of a difference outside its interval; None for any other cell."""
    return next((name for name in ("worse", "better") if cell.endswith(f", {name}")), None)
