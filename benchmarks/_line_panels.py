"""A figure of line plots side by side, for benchmarks whose lines are no methods of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from vcfbert.reports.drawing import PALETTE, STYLE, label_ends, new_figure

_LEVEL_COLOUR = "#777777"


@dataclass(frozen=True)
class LinePanel:
    """One plot. ``lines``: label -> points (x, y). ``levels``: label -> y of a dashed horizontal line."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    levels: Mapping[str, float] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False


def line_panels(panels: Sequence[LinePanel]) -> Figure:
    """Draws the panels side by side. A label has the same colour in all of them."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.lines))
    colours = {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(labels)}
    with matplotlib.rc_context(STYLE):
        figure = new_figure(4.6 * len(panels), 3.9)
        for index, panel in enumerate(panels, 1):
            _draw(figure.add_subplot(1, len(panels), index), panel, colours)
    return figure


def _draw(axes: Axes, panel: LinePanel, colours: Mapping[str, str]) -> None:
    ends = []
    for label, points in panel.lines.items():
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colours[label], linewidth=1.8, marker="o", markersize=4.5)
        ends.append((label, ys[-1], colours[label]))
    for label, level in panel.levels.items():
        axes.axhline(level, color=_LEVEL_COLOUR, linewidth=1.3, linestyle="--")
        ends.append((label, level, _LEVEL_COLOUR))
    if panel.log_x:
        ticks = sorted({x for points in panel.lines.values() for x, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{x:,g}" if x < 1e6 else f"{x / 1e6:g} M" for x in ticks], minor=False)
        axes.set_xticks([], minor=True)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_yticks([], minor=True)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.set_title(panel.title)
    axes.grid(True, axis="y")
    label_ends(axes, ends)
