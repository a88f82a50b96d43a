"""Compares the evaluation reports of several variants and of the baselines.

``evaluate`` writes one report per variant, a plain mapping. Values that a report lacks stay empty::

    {"variant": "v18",
     "array": Evaluation.as_dict(),
     "masked": {"train": {"f1": .., "rare_f1": ..}, "validation": {"f1": .., "rare_f1": ..}},
     "training": {"ms_per_batch": .., "peak_memory_mb": .., "refresh_seconds": .., "refresh_share": ..,
                  "refreshes": .., "parameters": .., "epochs": .., "seconds": ..},
     "imputation": {"seconds": ..},
     "array_unphased": Evaluation.as_dict(), "imputation_unphased": {"seconds": ..},
     "peers": {"beagle": {"array": Evaluation.as_dict(), "seconds": .., "version": "..",
                          "array_unphased": Evaluation.as_dict(), "imputation_unphased": {"seconds": ..}}}}
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from vcfbert.artifacts import write_json, write_text
from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.errors import InputError
from vcfbert.metrics.accuracy import ALL
from vcfbert.metrics.paired_bootstrap import Difference, paired_differences
from vcfbert.metrics.r2_sums import R2Sums
from vcfbert.reports.comparison_tables import Kind, Row, comparison_tables, markdown_line, ratio_label
from vcfbert.reports.drawing import method_label, save_figure
from vcfbert.reports.html_report import comparison_page
from vcfbert.reports.measures import (
    BARS,
    COST,
    QUALITY,
    RATIO,
    SPENT,
    TABLES,
    is_number,
    nested,
    r2_by_bin,
    unphased,
    value_at,
)
from vcfbert.reports.plots import comparison as comparison_figure
from vcfbert.reports.plots import paired_differences as difference_figure
from vcfbert.reports.plots import quality_against_cost
from vcfbert.tracker import Tracker

_NOTES = (
    "r²: aggregate dosage r² at the targets' untyped sites, by minor-allele frequency in the panel. "
    "NRC: non-reference concordance; IQS: imputation quality score. F1 and rare F1 (MAF < 5%): ALT allele at masked "
    "sites of the validation samples. Imputation: wall time for all targets. Unphased: methods that phase the targets "
    "themselves. Estimated r²: mean DR2 or R2 of the imputed file; true r²: mean r² per site. Both means and their "
    "correlation cover the sites that vary in the targets. Differences of r²: simultaneous 95% bootstrap intervals "
    "over samples and over 50 genome blocks; parentheses show the wider one. Better and worse lie outside the "
    "interval; even lies within it."
)


@dataclass(frozen=True)
class Comparison:
    """Rows: variants, then baselines, then reference points. ``ratios``: measure -> V18 / V17, where both are known.
    ``differences``: by method, of r2 by bin from that of ``baseline``; methods of other targets are excluded."""

    rows: tuple[Row, ...]
    ratios: Mapping[str, float]
    baseline: str = ""
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [{"method": row.method, "label": row.label, "kind": row.kind, **nested(row.values)} for row in self.rows]
        ratios = {"/".join(RATIO): nested(self.ratios)} if self.ratios else {}
        found = {"rows": rows, "ratios": ratios}
        if self.differences:
            by_method = {name: [one.as_dict() for one in known] for name, known in self.differences.items()}
            found["differences"] = {"baseline": self.baseline, "methods": by_method}
        return found

    def markdown(self) -> str:
        """All tables and the notes below them."""
        parts = ["# Comparison", ""]
        for title, (head, *body) in self._tables:
            parts += [f"## {title}", "", markdown_line(head), markdown_line(["---", *["---:"] * (len(head) - 1)])]
            parts += [*map(markdown_line, body), ""]
        return "\n".join([*parts, _NOTES, ""])

    def table(self) -> Group:
        """Accuracy, cost and quality as tables for a rich console: a line per measure, so that they fit a terminal."""
        tables = []
        for title, cells in self._tables:
            (corner, *methods), *lines = zip(*cells, strict=True)
            table = Table(title=title, title_justify="left")
            table.add_column(corner, overflow="fold")
            for method in methods:
                style = "bold" if method == ratio_label() else ""
                table.add_column(method, justify="right", overflow="fold", style=style)
            for line in lines:
                table.add_row(*line)
            tables.append(table)
        return Group(*tables)

    def write(self, folder: Path, stem: str = "compare") -> None:
        """``stem``.json, .md, .html, .png and .svg in ``folder``."""
        figure = self._figure()
        write_json(folder / f"{stem}.json", self.as_dict())
        write_text(folder / f"{stem}.md", self.markdown())
        write_text(folder / f"{stem}.html", comparison_page(self.title, self._tables, self._figures(figure), _NOTES))
        for suffix in (".png", ".svg"):
            save_figure(figure, folder / f"{stem}{suffix}")

    def record(self, tracker: Tracker, compared: str, more: Sequence[Path] = ()) -> None:
        """Logs the files of ``write`` and ``more`` as artifacts of a new MLflow run."""
        tags = {"source": "compare", "kind": "compare"}
        with (
            tempfile.TemporaryDirectory(prefix="vcfbert-") as folder,
            tracker.start("compare", {"compared": compared}, tags),
        ):
            self.write(Path(folder))
            for path in (*sorted(Path(folder).iterdir()), *more):
                tracker.log_artifact(path)

    @property
    def title(self) -> str:
        return f"Comparison of {', '.join(row.label for row in self.rows)}"

    def _figures(self, overview: Figure) -> Iterator[tuple[str, Figure]]:
        """Captions and figures of the HTML page: differences, quality against cost, overview."""
        if self.differences:
            intervals = {
                method: {one.bin: (one.value, one.decisive.low, one.decisive.high) for one in known}
                for method, known in self.differences.items()
            }
            yield "Differences", difference_figure(intervals, self.baseline)
        quality = {f"r² {name}": self._known(f"r2 {name}") for name in (*MAF_BIN_NAMES, ALL)}
        quality = {title: values for title, values in quality.items() if values}
        shown = {title: quality[title] for title in (*list(quality)[:1], *list(quality)[-1:])}  # rarest and all
        cost = {measure.title: self._known(measure.name) for measure in COST if measure.name in SPENT}
        cost = {title: values for title, values in cost.items() if values}
        if shown and cost:
            yield "Quality against cost", quality_against_cost(shown, cost)
        yield "Overview", overview

    @property
    def _tables(self) -> list[tuple[str, list[list[str]]]]:
        return list(comparison_tables(self.rows, self.ratios, self.baseline, self.differences))

    def _known(self, measure: str) -> dict[str, float]:
        """The measure's value by method."""
        return {row.method: row.values[measure] for row in self.rows if measure in row.values}

    def _figure(self) -> Figure:
        r2 = {row.method: r2_by_bin(row.values) for row in self.rows}
        r2_unphased = {row.method: r2_by_bin(unphased(row.values)) for row in self.rows}
        bars = {
            title: {row.method: row.values[name] for row in self.rows if name in row.values} for title, name in BARS
        }
        return comparison_figure(r2, bars, r2_unphased={name: values for name, values in r2_unphased.items() if values})


def compare(
    reports: Sequence[Mapping[str, Any]],
    references: Mapping[str, Mapping[str, Any]] | None = None,
    r2_sums: Mapping[str, R2Sums] | None = None,
) -> Comparison:
    """Puts the reports of several variants side by side (see the module's docstring for their form).

    A baseline in several reports is taken from the first. ``references``: further points by name, each with
    ``array`` as in a report. ``r2_sums``: R2 sums of the evaluations, by variant. The first variant that has them
    is the baseline of the paired differences. Raises InputError where a report names no variant or two name the
    same one.
    """
    if not reports:
        raise InputError("nothing_to_compare", "no report was given", hint="run `vcfbert evaluate` for a variant first")
    variants: dict[str, Row] = {}
    baselines: dict[str, Row] = {}
    for report in reports:
        name = report.get("variant")
        if not isinstance(name, str):
            raise InputError("report_invalid", "a report names no variant", hint="write it again with this version")
        if name in variants:
            raise InputError("report_twice", f"two reports are of variant {name}", hint="give one report a variant")
        variants[name] = _row(name, "variant", report)
        for tool, outcome in report.get("peers", {}).items():
            measured = {**outcome, "imputation": {"seconds": outcome.get("seconds")}}
            baselines.setdefault(tool, _row(tool, "peer", measured))
    extra = [_row(name, "reference", report) for name, report in (references or {}).items()]
    rows = (*(variants[name] for name in sorted(variants)), *baselines.values(), *extra)
    return Comparison(rows, _ratios(variants), *_differences({name: (r2_sums or {}).get(name) for name in variants}))


def _differences(sums: Mapping[str, R2Sums | None]) -> tuple[str, dict[str, tuple[Difference, ...]]]:
    """The first method with R2 sums, and the differences from it of methods scored at the same sites and samples."""
    known = {name: found for name, found in sums.items() if found is not None}
    baseline, *others = (*known, "")
    paired = {name: known[name] for name in others if name and known[name].pairs_with(known[baseline])}
    return baseline, {name: paired_differences(found, known[baseline]) for name, found in paired.items()}


def _row(name: str, kind: Kind, report: Mapping[str, Any]) -> Row:
    source = dict(report)
    for form in ("", "_unphased"):
        rows = {row["bin"]: row for row in (report.get(f"array{form}") or {}).get("rows", ())}
        source[f"r2{form}"] = {key: row.get("aggregate_r2") for key, row in rows.items()}
        source[f"all{form}"] = rows.get(ALL, {})
        # The true r2 per site is shown only beside an estimate.
        estimated = {key: row for key, row in rows.items() if row.get("mean_estimated_r2") is not None}
        for figure in ("mean_estimated_r2", "mean_site_r2"):
            source[f"{figure}{form}"] = {key: row.get(figure) for key, row in estimated.items()}
    measures = (*(measure for *_, measures in TABLES for measure in measures), *QUALITY)
    found = {measure.name: value_at(source, measure.path) for measure in measures}
    values = {key: float(value) for key, value in found.items() if is_number(value)}
    label = method_label(name) if "version" not in report else f"{method_label(name)} {report['version']}"
    return Row(name, label, kind, values)


def _ratios(variants: Mapping[str, Row]) -> dict[str, float]:
    if not all(name in variants for name in RATIO):
        return {}
    above, below = (variants[name].values for name in RATIO)
    estimates = {measure.name for measure in QUALITY}
    return {name: above[name] / below[name] for name in above if below.get(name) and name not in estimates}
