"""The common look of all figures: style, colours of methods, labels at the ends of curves, and saving.

Figures are made without pyplot, so they need no display and change no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vcfbert.artifacts import atomic_file
from vcfbert.constants import VARIANT_COLOURS
from vcfbert.errors import InputError

# Okabe and Ito's palette (2008), which readers with any common colour blindness can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
_METHOD_COLOURS = {
    **VARIANT_COLOURS,
    "beagle": "#4D4D4D",
    "minimac4": "#8C8C8C",
}
_SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of methods without a colour of their own
_LABELS = {"v17": "V17", "v18": "V18", "v19": "V19", "beagle": "Beagle", "minimac4": "Minimac4"}
_BASELINES = ("beagle", "minimac4")  # drawn dashed

_INK = "#222222"
_GRID = "#DDDDDD"
STYLE: Any = {  # matplotlib's rcParams
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "vcfbert",  # the same figure gives the same SVG
}


def method_label(name: str) -> str:
    """The name of a method as readers know it."""
    return _LABELS.get(name, name)


def method_colour(name: str, among: Mapping[str, Any]) -> str:
    """The method's own colour, or a spare one by its place ``among`` the methods of the figure."""
    others = [other for other in among if other not in _METHOD_COLOURS]
    return _METHOD_COLOURS.get(name) or _SPARE_COLOURS[others.index(name) % len(_SPARE_COLOURS)]


def method_dashes(name: str) -> str:
    """The line style of a method: baselines are dashed."""
    return "--" if name in _BASELINES else "-"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches. Call it, and draw, within ``rc_context(STYLE)``."""
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes ``figure`` as PNG or SVG, by the suffix of ``path``. Raises InputError on another suffix."""
    kind = path.suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        what = f"cannot write a figure as {path.suffix!r}"
        raise InputError("figure_format", what, where=str(path), hint="use .png or .svg")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with atomic_file(path) as temporary, matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def svg_text(figure: Figure) -> str:
    """The figure as an SVG element for an HTML page."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Writes labels at the right edge, each at the height of its curve's end; ``ends``: label, y and colour.

    Labels that would overlap are moved apart.
    """
    to_axes = axes.transScale + axes.transLimits
    left = axes.get_xlim()[0]
    points = axes.get_window_extent().height * 72.0 / axes.figure.dpi
    gap = 14.0 / points  # one line of text, as a fraction of the axis
    ordered = sorted(ends, key=lambda end: end[1])
    heights = [float(to_axes.transform((left, value))[1]) for _, value, _ in ordered]
    for height, (label, _, colour) in zip(spread(heights, gap), ordered, strict=True):
        axes.annotate(
            label, (1.0, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", color=colour, fontweight="bold", fontsize=10, annotation_clip=False,
        )  # fmt: skip


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Moves ascending ``places`` as little as needed to stand ``gap`` apart.

    Places that overlap form a group, which keeps its centre.
    """
    groups: list[list[float]] = []  # [first place, number of places]
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1 and groups[-2][0] + groups[-2][1] * gap > groups[-1][0]:
            first, count = groups.pop()
            before, before_count = groups[-1]
            total = before_count + count
            centre = (
                before_count * (before + (before_count - 1) * gap / 2) + count * (first + (count - 1) * gap / 2)
            ) / total
            groups[-1] = [centre - (total - 1) * gap / 2, total]
    return [first + index * gap for first, count in groups for index in range(int(count))]
