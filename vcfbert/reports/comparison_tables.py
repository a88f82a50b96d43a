"""Tables of a comparison, as lines of text cells for Markdown, HTML and the console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.metrics.accuracy import ALL
from vcfbert.metrics.paired_bootstrap import Difference
from vcfbert.reports.drawing import method_label
from vcfbert.reports.measures import CORRELATION, ESTIMATED, RATIO, TABLES, TRUE, UNPHASED, Measure

Kind = Literal["variant", "peer", "reference"]


@dataclass(frozen=True)
class Row:
    """One method's values by measure name. A measure that its report lacks is absent."""

    method: str
    label: str
    kind: Kind
    values: Mapping[str, float]


def comparison_tables(
    rows: Sequence[Row], ratios: Mapping[str, float], baseline: str, differences: Mapping[str, tuple[Difference, ...]]
) -> Iterator[tuple[str, list[list[str]]]]:
    """Title and lines of each table that has values. The first line is the header."""
    tables = [(title, _cells(rows, ratios, corner, measures)) for title, corner, measures in TABLES]
    tables.append(("Estimated and true r²", _quality_cells(rows)))
    tables.append((f"Differences of r² from {method_label(baseline)}", _difference_cells(baseline, differences)))
    return ((title, cells) for title, cells in tables if cells is not None)


def _difference_cells(baseline: str, differences: Mapping[str, tuple[Difference, ...]]) -> list[list[str]] | None:
    """One line per method: by bin, the difference, its interval and the verdict. None without differences."""
    bins = [one.bin for one in next(iter(differences.values()), ())]
    lines = [
        [method_label(method), *(one.text().removeprefix(f"{one.bin} ") for one in known)]
        for method, known in differences.items()
    ]
    return [[f"r² less that of {method_label(baseline)}", *bins], *lines] if lines else None


def _quality_cells(rows: Sequence[Row]) -> list[list[str]] | None:
    """One line per method and kind of targets, "estimated / true" by bin. None where no file has estimates."""
    bins = (*MAF_BIN_NAMES, ALL)
    lines = []
    for prefix, kind in (("", ""), (UNPHASED, ", unphased targets")):
        for row in rows:
            pairs = [_pair(row.values, prefix, name) for name in bins]
            if any(pairs):
                lines.append([f"{row.label}{kind}", *pairs, _text(row.values.get(f"{prefix}{CORRELATION}"), ".3f")])
    return [["estimated / true r²", *bins, "correlation"], *lines] if lines else None


def _cells(
    rows: Sequence[Row], ratios: Mapping[str, float], corner: str, measures: Sequence[Measure]
) -> list[list[str]] | None:
    """Header that begins with ``corner``, one line per method, and the ratios. Empty columns and rows are omitted;
    None where no method has a value."""
    shown = [measure for measure in measures if any(measure.name in row.values for row in rows)]
    if not shown:
        return None
    lines = [[corner, *[measure.title for measure in shown]]]
    for row in rows:
        values = [row.values.get(measure.name) for measure in shown]
        if any(value is not None for value in values):
            lines.append([row.label, *[_text(value, m.form) for value, m in zip(values, shown, strict=True)]])
    if any(measure.name in ratios for measure in shown):
        lines.append([ratio_label(), *[_text(ratios.get(measure.name), ".3f") for measure in shown]])
    return lines


def _pair(values: Mapping[str, float], prefix: str, bin_name: str) -> str:
    """The cell "estimated / true" of a bin; empty without an estimate."""
    pair = [values.get(f"{prefix}{kind}{bin_name}") for kind in (ESTIMATED, TRUE)]
    return " / ".join(_text(value, ".3f") for value in pair) if None not in pair else ""


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def ratio_label() -> str:
    """The first cell of the line of ratios."""
    return " / ".join(method_label(name) for name in RATIO)


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
