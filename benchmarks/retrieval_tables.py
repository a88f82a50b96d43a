"""Tables and figure of ``bench_retrieval.py``, from its report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from _line_panels import LinePanel, line_panels
from _tables import machine_line, markdown_table
from matplotlib.figure import Figure

Report = Mapping[str, Any]
Row = Mapping[str, Any]

NETWORKS = {"copying": "Li-Stephens HMMs, unfitted", "v18": "V18's network", "v17": "V17's network"}
RETRIEVERS = {"random": "random", "hamming": "Hamming", "embedding": "embeddings", "runs": "IBS segments"}
SHOWN = "1-5"  # the bin of the figure: rare, with enough variants in few samples


def retrieval_table(report: Report) -> str:
    """Both parts in Markdown. A part without finished cells is omitted."""
    cells = report["cells"]
    parts = []
    if refresh := [cell for cell in cells if cell["part"] == "refresh"]:
        parts += ["### How often to refresh", refresh_table(refresh)]
    if any(cell["part"] == "retriever" for cell in cells):
        parts += [
            "### What is retrieved",
            retriever_table(cells, "all"),
            retriever_table(cells, SHOWN),
        ]
    about = (
        f"{report['haplotypes']} haplotypes x {report['sites']:,} sites of {report['region']}, {report['windows']} "
        f"windows, {report['samples']} samples of each an epoch; scored on {report['held_out']} held-out samples with "
        f"{report['density']:.0%} of the sites typed. ±: half the range over seeds, where several were run."
    )
    return "\n\n".join([*parts, about, machine_line(report["machine"])])


def refresh_table(cells: Sequence[Row]) -> str:
    """One row per refresh interval.

    The time of an epoch is the median over all cells, because other programs disturb it more than a refresh does. Each
    row adds the seconds of its own refreshes.
    """
    each = epoch_seconds(cells)
    every_epoch = {cell["seed"]: cell["r2"]["all"] for cell in cells if cell["refresh_every"] == 1}
    bins = list(cells[0]["r2"])
    rows = []
    for every, own in _grouped(cells, "refresh_every"):
        curves = [cell["curve"] for cell in own]
        spent = statistics.fmean(_refresh_seconds(curve) for curve in curves)
        training = each * len(curves[0]) + spent
        overlaps = [point["refresh/overlap"] for curve in curves for point in curve if "refresh/overlap" in point]
        differences = [cell["r2"]["all"] - every_epoch[cell["seed"]] for cell in own if cell["seed"] in every_epoch]
        rows.append(
            (
                f"every {every} epochs" if every > 1 else "every epoch" if every else "never",
                str(sum("refresh/seconds" in point for point in curves[0])),
                f"{spent:.3f}",
                f"{training:,.1f}",
                f"{spent / training:.3%}",
                f"{statistics.fmean(overlaps):.0%}" if overlaps else "",
                *(_mean(cell["r2"][name] for cell in own) for name in bins),
                _signed(differences),
            )
        )
    costs = ("refreshes", "refreshing, s", "training, s", "share", "neighbours kept")
    return markdown_table(("refresh", *costs, *(f"r² {name}" for name in bins), "minus every epoch"), rows)


def retriever_table(cells: Sequence[Row], name: str) -> str:
    """r2 of the bin ``name`` by network and K, with one column per retriever."""
    whole = [cell["r2"][name] for cell in cells if cell["part"] == "all"]
    of_part = [cell for cell in cells if cell["part"] == "retriever"]
    rows = []
    for network, label in NETWORKS.items():
        own = [cell for cell in of_part if cell["network"] == network]
        none = [cell["r2"][name] for cell in own if cell["retriever"] == "none"]
        for k, at in _grouped([cell for cell in own if cell["retriever"] != "none"], "k"):
            found = {retriever: [c["r2"][name] for c in at if c["retriever"] == retriever] for retriever in RETRIEVERS}
            everything = whole if network == "copying" else []
            rows.append((f"{label}, K = {k}", *map(_spread, (none, *found.values(), everything))))
    header = (f"r² {name}{'' if name == 'all' else '%'}", "none", *RETRIEVERS.values(), "whole panel")
    return markdown_table(header, rows)


def retrieval_figure(report: Report) -> Figure:
    """r2 against seconds of training by refresh, and against K by retriever."""
    cells = report["cells"]
    panels = []
    if refresh := [cell for cell in cells if cell["part"] == "refresh"]:
        each = epoch_seconds(refresh)
        lines = {
            f"every {every}" if every else "never": mean_curve([cell["curve"] for cell in own], each)
            for every, own in _grouped(refresh, "refresh_every")
        }
        panels.append(
            LinePanel("V18, refreshed every n epochs", "Seconds of training", "Validation r², all sites", lines)
        )
    for network in ("copying", "v18"):
        own = [cell for cell in cells if cell["part"] == "retriever" and cell["network"] == network]
        lines = {
            label: [
                (float(k), statistics.fmean(cell["r2"][SHOWN] for cell in at))
                for k, at in _grouped([cell for cell in own if cell["retriever"] == retriever], "k")
            ]
            for retriever, label in RETRIEVERS.items()
        }
        levels = {"none": [cell["r2"][SHOWN] for cell in own if cell["retriever"] == "none"]}
        if network == "copying":
            levels["whole panel"] = [cell["r2"][SHOWN] for cell in cells if cell["part"] == "all"]
        known = {label: statistics.fmean(values) for label, values in levels.items() if values}
        if any(lines.values()):
            shown = {label: points for label, points in lines.items() if points}
            y = f"r², MAF {SHOWN}%"
            panels.append(LinePanel(NETWORKS[network], "K haplotypes retrieved", y, shown, known, log_x=True))
    return line_panels(panels)


def epoch_seconds(cells: Iterable[Row]) -> float:
    """Median seconds of an epoch without its refresh."""
    return statistics.median(
        point["epoch_seconds"] - point.get("refresh/seconds", 0.0) for cell in cells for point in cell["curve"]
    )


def mean_curve(curves: Sequence[Sequence[Row]], each: float) -> list[tuple[float, float]]:
    """Seconds and validation r2 after each epoch, means over seeds."""
    points, spent = [], 0.0
    for epoch in zip(*curves, strict=True):
        spent += each + statistics.fmean(point.get("refresh/seconds", 0.0) for point in epoch)
        points.append((spent, statistics.fmean(point["val/r2/all"] for point in epoch)))
    return points


def _grouped(cells: Iterable[Row], name: str) -> Iterator[tuple[int, list[Row]]]:
    cells = list(cells)
    for value in sorted({cell[name] for cell in cells}):
        yield value, [cell for cell in cells if cell[name] == value]


def _refresh_seconds(curve: Iterable[Row]) -> float:
    return sum(point.get("refresh/seconds", 0.0) for point in curve)


def _mean(values: Iterable[float]) -> str:
    return f"{statistics.fmean(values):.4f}"


def _spread(values: Sequence[float]) -> str:
    """The mean and half the range; empty without values."""
    if not values:
        return ""
    half = (max(values) - min(values)) / 2.0
    return f"{statistics.fmean(values):.4f}" + (f" ± {half:.4f}" if len(values) > 1 else "")


def _signed(values: Sequence[float]) -> str:
    """Mean and range of differences."""
    if not any(values):
        return ""
    return f"{statistics.fmean(values):+.4f} ({min(values):+.4f} to {max(values):+.4f})"
