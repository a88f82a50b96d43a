"""Figures, in one look: colours that colour-blind readers tell apart, curves labelled where they end.

Every function returns a matplotlib Figure made without pyplot (no global state, no display); ``save_figure``
writes it as PNG or SVG.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vcfbert.artifacts import atomic_file
from vcfbert.constants import MAF_BIN_NAMES, VARIANT_COLOURS
from vcfbert.errors import InputError

# The palette of Okabe and Ito (2008): distinct under every common colour blindness.
_COLOURS = {
    **VARIANT_COLOURS,
    "beagle": "#4D4D4D",
    "minimac4": "#8C8C8C",
}
_SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")  # where there is no method
_LABELS = {"v17": "V17", "v18": "V18", "v19": "V19", "beagle": "Beagle", "minimac4": "Minimac4"}
_DASHED = ("beagle", "minimac4")  # not ours

_INK = "#222222"
_GRID = "#DDDDDD"
_STYLE: Any = {  # matplotlib's rcParams
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

# Columns of metrics/<variant>/latest.csv that make a panel of the training curves: title, train, validation.
_CURVES = (
    ("Loss", "train/loss", "val/loss"),
    ("F1", "train/f1", "val/f1"),
    ("F1, rare sites", "train/rare_f1", "val/rare_f1"),
    ("Dosage r²", None, "val/r2/all"),
)


def method_label(name: str) -> str:
    return _LABELS.get(name, name)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes ``figure`` as its suffix says (.png or .svg), atomically."""
    kind = path.suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        what = f"cannot write a figure as {path.suffix!r}"
        raise InputError("figure_format", what, where=str(path), hint="use .png or .svg")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with atomic_file(path) as temporary, matplotlib.rc_context(_STYLE):
        figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def comparison(
    r2: Mapping[str, Mapping[str, float]],
    bars: Mapping[str, Mapping[str, float]],
    *,
    r2_unphased: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """r2 by MAF bin, from phased and below, if there are any, from unphased targets, beside panels of bars for what
    else tells methods apart; ``bars``: title with unit -> method -> value. Titles without values are left out."""
    panels = [(title, values) for title, values in bars.items() if values]
    lines = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    with matplotlib.rc_context(_STYLE):
        figure = _figure(13.0, max(8.6 if r2_unphased else 5.2, 1.9 * len(lines)))
        columns = figure.add_gridspec(1, 2 if panels else 1, width_ratios=(1.15, 1.0) if panels else None)
        left = columns[0].subgridspec(2 if r2_unphased else 1, 1)
        title = "Aggregate dosage r² by allele frequency"
        _draw_r2_panel(figure.add_subplot(left[0]), r2, "Dosage r², phased targets" if r2_unphased else title)
        if r2_unphased:
            _draw_r2_panel(figure.add_subplot(left[1]), r2_unphased, "Dosage r², unphased targets")
        if panels:
            rows = [max(len(values) for _, values in line) for line in lines]
            grid = columns[1].subgridspec(len(lines), 2, height_ratios=[count + 1.5 for count in rows])
            for row, line in enumerate(lines):
                for column, (title, values) in enumerate(line):
                    draw_bars(figure.add_subplot(grid[row, column]), values, title, rows=rows[row])
    return figure


def _draw_r2_panel(axes: Axes, r2: Mapping[str, Mapping[str, float]], title: str) -> None:
    draw_r2_by_bin(axes, r2)
    axes.set_title(title)


def paired_differences(intervals: Mapping[str, Mapping[str, tuple[float, float, float]]], baseline: str) -> Figure:
    """Differences of r2 from the ``baseline`` with their intervals; ``intervals``: method -> bin -> value, low, high.
    NaN bounds are left out."""
    bins = list(dict.fromkeys(name for values in intervals.values() for name in values))
    with matplotlib.rc_context(_STYLE):
        figure = _figure(7.6, 3.6)
        axes = figure.add_subplot()
        axes.axhline(0.0, color="#999999", linewidth=1)
        for index, (method, values) in enumerate(intervals.items()):
            shift = 0.16 * (index - (len(intervals) - 1) / 2)
            xs = [bins.index(name) + shift for name in values]
            colour = _colour(method, intervals)
            for x, (_, low, high) in zip(xs, values.values(), strict=True):
                if math.isfinite(low) and math.isfinite(high):
                    axes.plot([x, x], [low, high], color=colour, linewidth=2.2)
            ys = [value for value, _, _ in values.values()]
            axes.plot(xs, ys, color=colour, marker="o", markersize=5.5, linestyle="", label=method_label(method))
        axes.set_xticks(range(len(bins)), bins)
        axes.set(xlabel="Minor-allele frequency in the panel", ylabel="Difference of r²")
        axes.grid(True, axis="y")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set_title(f"Aggregate r² less that of {method_label(baseline)}, 95% intervals")
    return figure


def quality_against_cost(quality: Mapping[str, Mapping[str, float]], cost: Mapping[str, Mapping[str, float]]) -> Figure:
    """A panel for each measure of quality (downwards) and of cost (across), a point a method; both: title ->
    method -> value. Panels without a method that has both are empty."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(2.9 * len(cost), 2.7 * len(quality))
        methods = {name: 0 for values in quality.values() for name in values}
        grid = figure.subplots(len(quality), len(cost), squeeze=False)
        for row, (quality_title, r2) in enumerate(quality.items()):
            for column, (cost_title, spent) in enumerate(cost.items()):
                axes = grid[row][column]
                for name in (name for name in r2 if name in spent):
                    axes.plot(spent[name], r2[name], marker="o", markersize=7, color=_colour(name, methods))
                    place = (spent[name], r2[name])
                    axes.annotate(method_label(name), place, xytext=(6, 4), textcoords="offset points", fontsize=9)
                axes.margins(0.3)
                axes.grid(True)
                axes.set(xlabel=cost_title, ylabel=quality_title if column == 0 else "")
    return figure


def svg_text(figure: Figure) -> str:
    """The figure as an SVG element, to stand within a page."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def calibration(points: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Observed frequency of the minor allele against its predicted probability; ``points``: method -> the
    ``calibration`` list of an evaluation's row."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(5.4, 5.0)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate("perfect", (0.12, 0.12), xytext=(6, -10), textcoords="offset points", color="#888888", fontsize=9)
        ends = []
        for name, rows in points.items():
            if not rows:
                continue
            x, y = [row["predicted"] for row in rows], [row["observed"] for row in rows]
            colour = _colour(name, points)
            axes.plot(x, y, color=colour, linestyle=_dashes(name), marker="o", markersize=4, linewidth=1.8)
            ends.append((method_label(name), y[-1], colour))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="Predicted minor-allele probability", ylabel="Observed minor-allele frequency")
        axes.grid(True)
        _label_ends(axes, ends)
        axes.set_title("Calibration")
    return figure


def training_curves(histories: Mapping[str, Path]) -> Figure:
    """Loss, F1 and dosage r2 by epoch from metrics CSVs (``histories``: method -> CSV with a column ``epoch``);
    validation solid, training dotted. Raises InputError where a CSV has none of the known columns."""
    tables = {name: _read_history(path) for name, path in histories.items()}
    present = {column for table in tables.values() for column in table}
    curves = [curve for curve in _CURVES if present & {curve[1], curve[2]}]
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.7 * len(curves), 3.4)
        for index, (title, train, validation) in enumerate(curves, 1):
            axes = figure.add_subplot(1, len(curves), index)
            ends = []
            for name, table in tables.items():
                colour = _colour(name, tables)
                if train in table:
                    axes.plot(*table[train], color=colour, linewidth=1.4, linestyle=":")
                if validation in table:
                    epochs, values = table[validation]
                    axes.plot(epochs, values, color=colour, linewidth=1.8, marker="o", markersize=3.5)
                    ends.append((method_label(name), values[-1], colour))
            axes.set_title(title)
            axes.set_xlabel("Epoch (dotted: training)" if train in present else "Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(True, axis="y")
            _label_ends(axes, ends)
    return figure


@dataclass(frozen=True)
class Lines:
    """A panel of ``lines``: label -> points (x, y), each label where its line ends. ``levels``: dashed, label -> y."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    levels: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False


def line_panels(panels: Sequence[Lines]) -> Figure:
    """Panels side by side; a label has one colour in all of them."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.lines))
    with matplotlib.rc_context(_STYLE):
        figure = _figure(4.6 * len(panels), 3.9)
        for index, panel in enumerate(panels, 1):
            axes = figure.add_subplot(1, len(panels), index)
            ends = []
            for label, points in panel.lines.items():
                xs, ys = zip(*points, strict=True)
                colour = _PALETTE[labels.index(label) % len(_PALETTE)]
                axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o", markersize=4.5)
                ends.append((label, ys[-1], colour))
            for label, level in panel.levels.items():
                axes.axhline(level, color="#777777", linewidth=1.3, linestyle="--")
                ends.append((label, level, "#777777"))
            if panel.log_x:
                ticks = sorted({x for points in panel.lines.values() for x, _ in points})
                axes.set_xscale("log")
                axes.set_xticks(ticks, [f"{x:g}" for x in ticks], minor=False)
                axes.set_xticks([], minor=True)
            axes.set(xlabel=panel.x, ylabel=panel.y)
            axes.set_title(panel.title)
            axes.grid(True, axis="y")
            _label_ends(axes, ends)
    return figure


def draw_r2_by_bin(axes: Axes, r2: Mapping[str, Mapping[str, float]]) -> None:
    """Aggregate dosage r2 by MAF bin, one line a method; ``r2``: method -> bin name -> r2."""
    bins = [name for name in MAF_BIN_NAMES if any(name in values for values in r2.values())]
    ends = []
    for name, values in r2.items():
        xs = [index for index, bin_name in enumerate(bins) if bin_name in values]
        ys = [values[bins[index]] for index in xs]
        if not ys:
            continue
        colour = _colour(name, r2)
        axes.plot(xs, ys, color=colour, linestyle=_dashes(name), linewidth=2, marker="o", markersize=5.5)
        ends.append((f"{method_label(name)}  {ys[-1]:.3f}", ys[-1], colour))
    axes.set_xticks(range(len(bins)), bins)
    axes.set_xlim(-0.15, max(len(bins) - 1, 0) + 0.1)
    axes.set_ylim(0.0, 1.0)
    axes.set(xlabel="Minor-allele frequency in the panel", ylabel="Aggregate dosage r²")
    axes.grid(True, axis="y")
    _label_ends(axes, ends)


def draw_bars(axes: Axes, values: Mapping[str, float], title: str, *, rows: int = 0) -> None:
    """Horizontal bars, each with its value; room for ``rows`` bars keeps them as thick as a neighbour's."""
    names = list(values)
    longest = max((value for value in values.values() if math.isfinite(value)), default=0.0) or 1.0
    axes.barh(range(len(names)), list(values.values()), color=[_colour(name, values) for name in names], height=0.62)
    for row, value in enumerate(values.values()):
        place = (value if math.isfinite(value) else 0.0, row)
        axes.annotate(_short(value), place, xytext=(4, 0), textcoords="offset points", va="center", fontsize=9.5)
    axes.set_xlim(0.0, 1.3 * longest)  # room for the longest bar's value
    axes.set_yticks(range(len(names)), [method_label(name) for name in names])
    axes.set_ylim(max(rows, len(names)) - 0.4, -0.6)  # the first method on top
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_title(title, fontsize=10.5)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    FigureCanvasAgg(figure)
    return figure


def _colour(name: str, among: Mapping[str, Any]) -> str:
    strangers = [other for other in among if other not in _COLOURS]
    return _COLOURS.get(name) or _SPARE_COLOURS[strangers.index(name) % len(_SPARE_COLOURS)]


def _dashes(name: str) -> str:
    return "--" if name in _DASHED else "-"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Names at the right edge, at the height of their curves' ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    points = axes.get_window_extent().height * 72.0 / axes.figure.dpi
    gap = 14.0 / points  # one line of text, as a fraction of the axis
    ordered = sorted(ends, key=lambda end: end[1])
    places = [(value - low) / (high - low) for _, value, _ in ordered]
    for place, (label, _, colour) in zip(_spread(places, gap), ordered, strict=True):
        axes.annotate(
            label, (1.0, place), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", color=colour, fontweight="bold", fontsize=10, annotation_clip=False,
        )  # fmt: skip


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending ``places`` moved as little as needed to stand ``gap`` apart: overlapping ones form groups that
    keep their common centre."""
    groups: list[list[float]] = []  # [first place, number]
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


def _read_history(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Column -> (epochs, values) of its cells that are not empty."""
    try:
        with path.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        table = {
            column: [(float(row["epoch"]), float(row[column])) for row in rows if row[column]]
            for _, *columns in _CURVES
            for column in columns
            if column is not None and rows and column in rows[0]
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError("metrics_invalid", f"cannot be read as a metrics CSV ({error!r})", where=str(path)) from error
    found = {column: tuple(map(list, zip(*pairs, strict=True))) for column, pairs in table.items() if pairs}
    if not found:
        raise InputError("metrics_invalid", "holds no epoch of any known metric", where=str(path))
    return found  # type: ignore[return-value]
