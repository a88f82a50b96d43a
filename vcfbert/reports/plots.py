"""The figures of reports. Each function returns a matplotlib Figure; ``drawing.save_figure`` writes it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.errors import InputError
from vcfbert.reports.drawing import STYLE, label_ends, method_colour, method_dashes, method_label, new_figure

# Panels of the training curves: title, then columns of metrics/<variant>/latest.csv for training and validation.
_CURVES = (
    ("Loss", "train/loss", "val/loss"),
    ("F1", "train/f1", "val/f1"),
    ("F1, rare sites", "train/rare_f1", "val/rare_f1"),
    ("Dosage r²", None, "val/r2/all"),
)


def comparison(
    r2: Mapping[str, Mapping[str, float]],
    bars: Mapping[str, Mapping[str, float]],
    *,
    r2_unphased: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draws r2 by MAF bin on the left and bars of other measures on the right.

    ``r2``: method -> bin -> r2 of phased targets. ``r2_unphased``: the same of unphased targets, drawn below.
    ``bars``: title with unit -> method -> value; titles without values are omitted.
    """
    panels = [(title, values) for title, values in bars.items() if values]
    pairs = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(13.0, max(8.6 if r2_unphased else 5.2, 1.9 * len(pairs)))
        columns = figure.add_gridspec(1, 2 if panels else 1, width_ratios=(1.15, 1.0) if panels else None)
        left = columns[0].subgridspec(2 if r2_unphased else 1, 1)
        title = "Aggregate dosage r² by allele frequency"
        _draw_r2_panel(figure.add_subplot(left[0]), r2, "Dosage r², phased targets" if r2_unphased else title)
        if r2_unphased:
            _draw_r2_panel(figure.add_subplot(left[1]), r2_unphased, "Dosage r², unphased targets")
        if panels:
            rows = [max(len(values) for _, values in pair) for pair in pairs]
            grid = columns[1].subgridspec(len(pairs), 2, height_ratios=[count + 1.5 for count in rows])
            for row, pair in enumerate(pairs):
                for column, (title, values) in enumerate(pair):
                    draw_bars(figure.add_subplot(grid[row, column]), values, title, rows=rows[row])
    return figure


def _draw_r2_panel(axes: Axes, r2: Mapping[str, Mapping[str, float]], title: str) -> None:
    draw_r2_by_bin(axes, r2)
    axes.set_title(title)


def paired_differences(intervals: Mapping[str, Mapping[str, tuple[float, float, float]]], baseline: str) -> Figure:
    """Draws differences of r2 from the ``baseline`` with their intervals.

    ``intervals``: method -> bin -> value, low, high. An interval with NaN bounds is not drawn.
    """
    bins = list(dict.fromkeys(name for values in intervals.values() for name in values))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(7.6, 3.6)
        axes = figure.add_subplot()
        axes.axhline(0.0, color="#999999", linewidth=1)
        for index, (method, values) in enumerate(intervals.items()):
            shift = 0.16 * (index - (len(intervals) - 1) / 2)
            xs = [bins.index(name) + shift for name in values]
            colour = method_colour(method, intervals)
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
    """Draws a grid of panels, a row per measure of quality and a column per measure of cost.

    Each panel has one point per method that has both values. ``quality`` and ``cost``: title -> method -> value.
    """
    with matplotlib.rc_context(STYLE):
        figure = new_figure(2.9 * len(cost), 2.7 * len(quality))
        methods = {name: 0 for values in quality.values() for name in values}
        grid = figure.subplots(len(quality), len(cost), squeeze=False)
        for row, (quality_title, r2) in enumerate(quality.items()):
            for column, (cost_title, spent) in enumerate(cost.items()):
                axes = grid[row][column]
                for name in (name for name in r2 if name in spent):
                    axes.plot(spent[name], r2[name], marker="o", markersize=7, color=method_colour(name, methods))
                    place = (spent[name], r2[name])
                    axes.annotate(method_label(name), place, xytext=(6, 4), textcoords="offset points", fontsize=9)
                axes.margins(0.3)
                axes.grid(True)
                axes.set(xlabel=cost_title, ylabel=quality_title if column == 0 else "")
    return figure


def calibration(points: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draws the observed frequency of the minor allele against its predicted probability.

    ``points``: method -> the ``calibration`` list of an evaluation's row.
    """
    with matplotlib.rc_context(STYLE):
        figure = new_figure(5.4, 5.0)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate("perfect", (0.12, 0.12), xytext=(6, -10), textcoords="offset points", color="#888888", fontsize=9)
        ends = []
        for name, rows in points.items():
            if not rows:
                continue
            x, y = [row["predicted"] for row in rows], [row["observed"] for row in rows]
            colour = method_colour(name, points)
            axes.plot(x, y, color=colour, linestyle=method_dashes(name), marker="o", markersize=4, linewidth=1.8)
            ends.append((method_label(name), y[-1], colour))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="Predicted minor-allele probability", ylabel="Observed minor-allele frequency")
        axes.grid(True)
        label_ends(axes, ends)
        axes.set_title("Calibration")
    return figure


def training_curves(histories: Mapping[str, Path]) -> Figure:
    """Draws loss, F1 and dosage r2 by epoch: validation solid, training dotted.

    ``histories``: method -> metrics CSV with a column ``epoch``. Raises InputError if a CSV has no known column.
    """
    tables = {name: _read_history(path) for name, path in histories.items()}
    present = {column for table in tables.values() for column in table}
    curves = [curve for curve in _CURVES if present & {curve[1], curve[2]}]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(3.7 * len(curves), 3.4)
        for index, (title, train, validation) in enumerate(curves, 1):
            axes = figure.add_subplot(1, len(curves), index)
            ends = []
            for name, table in tables.items():
                colour = method_colour(name, tables)
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
            label_ends(axes, ends)
    return figure


def draw_r2_by_bin(axes: Axes, r2: Mapping[str, Mapping[str, float]]) -> None:
    """Draws aggregate dosage r2 by MAF bin, one line per method; ``r2``: method -> bin -> r2."""
    bins = [name for name in MAF_BIN_NAMES if any(name in values for values in r2.values())]
    ends = []
    for name, values in r2.items():
        xs = [index for index, bin_name in enumerate(bins) if bin_name in values]
        ys = [values[bins[index]] for index in xs]
        if not ys:
            continue
        colour = method_colour(name, r2)
        axes.plot(xs, ys, color=colour, linestyle=method_dashes(name), linewidth=2, marker="o", markersize=5.5)
        ends.append((f"{method_label(name)}  {ys[-1]:.3f}", ys[-1], colour))
    axes.set_xticks(range(len(bins)), bins)
    axes.set_xlim(-0.15, max(len(bins) - 1, 0) + 0.1)
    axes.set_ylim(0.0, 1.0)
    axes.set(xlabel="Minor-allele frequency in the panel", ylabel="Aggregate dosage r²")
    axes.grid(True, axis="y")
    label_ends(axes, ends)


def draw_bars(axes: Axes, values: Mapping[str, float], title: str, *, rows: int = 0) -> None:
    """Draws horizontal bars, each with its value.

    ``rows``: minimum number of bars to leave room for, so that neighbouring panels have bars of one thickness.
    """
    names = list(values)
    longest = max((value for value in values.values() if math.isfinite(value)), default=0.0) or 1.0
    axes.barh(
        range(len(names)), list(values.values()), color=[method_colour(name, values) for name in names], height=0.62
    )
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


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _read_history(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Column -> epochs and values of its non-empty cells."""
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
        raise InputError("metrics_invalid", "has no value of a known metric", where=str(path))
    return found  # type: ignore[return-value]
