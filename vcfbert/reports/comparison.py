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

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table

from vcfbert.artifacts import write_json, write_text
from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.errors import InputError
from vcfbert.metrics.accuracy import ALL
from vcfbert.metrics.paired_bootstrap import Difference, paired_differences
from vcfbert.metrics.r2_sums import R2Sums
from vcfbert.reports.html_report import comparison_page
from vcfbert.reports.plots import comparison as comparison_figure
from vcfbert.reports.plots import method_label, quality_against_cost, save_figure
from vcfbert.reports.plots import paired_differences as difference_figure
from vcfbert.tracker import Tracker

Kind = Literal["variant", "peer", "reference"]


@dataclass(frozen=True)
class Measure:
    """A figure to compare: where a report keeps it, and how it is shown."""

    name: str
    title: str  # of its column, with the unit
    path: tuple[str, ...]  # keys into a report
    form: str = ".4f"


_UNPHASED = "unphased "  # begins the name of what is measured from unphased targets


def _targets(prefix: str, form: str) -> tuple[Measure, ...]:
    """What is measured at the targets' untyped sites; ``form``: how the targets' keys of a report end."""
    r2 = (Measure(f"{prefix}r2 {name}", f"r² {name}", (f"r2{form}", name)) for name in (*MAF_BIN_NAMES, ALL))
    all_bins = (("nonref_concordance", "NRC"), ("iqs", "IQS"))
    return (*r2, *(Measure(f"{prefix}{name}", title, (f"all{form}", name)) for name, title in all_bins))


_ACCURACY = (
    *_targets("", ""),
    Measure("f1", "F1", ("masked", "validation", "f1")),
    Measure("rare_f1", "rare F1", ("masked", "validation", "rare_f1")),
    Measure("train_f1", "train F1", ("masked", "train", "f1")),
    Measure("train_rare_f1", "train rare F1", ("masked", "train", "rare_f1")),
)
_ACCURACY_UNPHASED = _targets(_UNPHASED, "_unphased")
_COST = (
    Measure("ms_per_batch", "ms/batch", ("training", "ms_per_batch"), ",.1f"),
    Measure("peak_memory_mb", "peak memory, MB", ("training", "peak_memory_mb"), ",.0f"),
    Measure("refreshes", "refreshes", ("training", "refreshes"), ",.0f"),
    Measure("refresh_seconds", "refresh, s", ("training", "refresh_seconds"), ",.2f"),
    Measure("refresh_share", "refresh / epoch", ("training", "refresh_share"), ".2%"),
    Measure("parameters", "parameters", ("training", "parameters"), ",.0f"),
    Measure("epochs", "epochs", ("training", "epochs"), ",.0f"),
    Measure("training_seconds", "training, s", ("training", "seconds"), ",.0f"),
    Measure("imputation_seconds", "imputation, s", ("imputation", "seconds"), ",.1f"),
    Measure(f"{_UNPHASED}imputation_seconds", "imputation, unphased, s", ("imputation_unphased", "seconds"), ",.1f"),
)
# Of these, what quality is drawn against.
_SPENT = ("ms_per_batch", "peak_memory_mb", "refreshes", "training_seconds", "imputation_seconds")
_ESTIMATED, _TRUE = "estimated_r2 ", "site_r2 "  # begin the names of means over sites, by bin
_CORRELATION = "estimate_correlation"


def _quality(prefix: str, form: str) -> tuple[Measure, ...]:
    """How the files' own estimates of r2 compare with it; arguments as of ``_targets``."""
    by_bin = (
        Measure(f"{prefix}{kind}{name}", "", (f"{key}{form}", name))
        for name in (*MAF_BIN_NAMES, ALL)
        for kind, key in ((_ESTIMATED, "mean_estimated_r2"), (_TRUE, "mean_site_r2"))
    )
    return (*by_bin, Measure(f"{prefix}{_CORRELATION}", "", (f"all{form}", _CORRELATION)))


_QUALITY = (*_quality("", ""), *_quality(_UNPHASED, "_unphased"))
# Title, what stands above the methods (the README shows the tables without titles), measures.
_TABLES = (
    ("Accuracy", "method", _ACCURACY),
    ("Accuracy from unphased targets", "method, unphased targets", _ACCURACY_UNPHASED),
    ("Cost", "method", _COST),
)
# Panels of bars in the figure: title and measure.
_BARS = (
    ("F1, masked sites", "f1"),
    ("F1, masked rare sites", "rare_f1"),
    ("Training, ms per batch", "ms_per_batch"),
    ("Training, peak MB", "peak_memory_mb"),
    ("Imputation, s", "imputation_seconds"),
    ("Imputation, unphased, s", f"{_UNPHASED}imputation_seconds"),
    ("One refresh, s", "refresh_seconds"),
)
_RATIO = ("v18", "v17")
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
class Row:
    """One method's figures, by measure name; absent where its report has none."""

    method: str
    label: str
    kind: Kind
    values: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Rows: variants, then baselines, then reference points. ``ratios``: measure -> V18 / V17, where both are known.
    ``differences``: of r2 by bin from method ``baseline``, by method; those of other targets are not among them."""

    rows: tuple[Row, ...]
    ratios: Mapping[str, float]
    baseline: str = ""
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        rows = [
            {"method": row.method, "label": row.label, "kind": row.kind, **_nested(row.values)} for row in self.rows
        ]
        ratios = {"/".join(_RATIO): _nested(self.ratios)} if self.ratios else {}
        found = {"rows": rows, "ratios": ratios}
        if self.differences:
            by_method = {name: [one.as_dict() for one in known] for name, known in self.differences.items()}
            found["differences"] = {"baseline": self.baseline, "methods": by_method}
        return found

    def markdown(self) -> str:
        parts = ["# Comparison", ""]
        for title, (head, *body) in self._tables():
            parts += [f"## {title}", "", _markdown_line(head), _markdown_line(["---", *["---:"] * (len(head) - 1)])]
            parts += [*map(_markdown_line, body), ""]
        return "\n".join([*parts, _NOTES, ""])

    def table(self) -> Group:
        """Accuracy, cost and quality as tables for a rich console."""
        tables = []
        for title, (head, *body) in self._tables():
            table = Table(title=title, title_justify="left")
            table.add_column(head[0])
            for name in head[1:]:
                table.add_column(name, justify="right")
            for line in body:
                table.add_row(*line, style="bold" if line[0] == _ratio_label() else None)
            tables.append(table)
        return Group(*tables)

    def write(self, folder: Path, stem: str = "compare") -> None:
        """``stem``.json, .md, .html, .png and .svg in ``folder``."""
        figure = self._figure()
        write_json(folder / f"{stem}.json", self.as_dict())
        write_text(folder / f"{stem}.md", self.markdown())
        write_text(folder / f"{stem}.html", comparison_page(self.title, self._tables(), self._figures(figure), _NOTES))
        for suffix in (".png", ".svg"):
            save_figure(figure, folder / f"{stem}{suffix}")

    def record(self, tracker: Tracker, compared: str, more: Sequence[Path] = ()) -> None:
        """A run of its own in MLflow, whose artifacts are what ``write`` gives and ``more``."""
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
        """What the page shows: the differences, quality against cost, and the overview."""
        if self.differences:
            drawn = {
                method: {one.bin: (one.value, one.decisive.low, one.decisive.high) for one in known}
                for method, known in self.differences.items()
            }
            yield "Differences", difference_figure(drawn, self.baseline)
        quality = {f"r² {name}": self._known(f"r2 {name}") for name in (*MAF_BIN_NAMES, ALL)}
        quality = {title: values for title, values in quality.items() if values}
        shown = {title: quality[title] for title in (*list(quality)[:1], *list(quality)[-1:])}  # rarest and all
        cost = {measure.title: self._known(measure.name) for measure in _COST if measure.name in _SPENT}
        cost = {title: values for title, values in cost.items() if values}
        if shown and cost:
            yield "Quality against cost", quality_against_cost(shown, cost)
        yield "Overview", overview

    def _known(self, measure: str) -> dict[str, float]:
        """The measure's value by method."""
        return {row.method: row.values[measure] for row in self.rows if measure in row.values}

    def _figure(self) -> Figure:
        r2 = {row.method: _r2(row.values) for row in self.rows}
        unphased = {row.method: _r2(_unphased(row.values)) for row in self.rows}
        bars = {
            title: {row.method: row.values[name] for row in self.rows if name in row.values} for title, name in _BARS
        }
        return comparison_figure(r2, bars, r2_unphased={name: values for name, values in unphased.items() if values})

    def _tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Title and lines of each table of which something is known."""
        tables = [(title, self._cells(corner, measures)) for title, corner, measures in _TABLES]
        tables.append(("Estimated and true r²", self._quality_cells()))
        tables.append((f"Differences of r² from {method_label(self.baseline)}", self._difference_cells()))
        return ((title, cells) for title, cells in tables if cells is not None)

    def _difference_cells(self) -> list[list[str]] | None:
        """A line a method: difference, its interval and what follows from it, by bin."""
        bins = [one.bin for one in next(iter(self.differences.values()), ())]
        lines = [
            [method_label(method), *(one.text().removeprefix(f"{one.bin} ") for one in known)]
            for method, known in self.differences.items()
        ]
        return [[f"r² less that of {method_label(self.baseline)}", *bins], *lines] if lines else None

    def _quality_cells(self) -> list[list[str]] | None:
        """A line a method and kind of targets, "estimated / true" by bin; None if no file tells an estimate."""
        bins = (*MAF_BIN_NAMES, ALL)
        lines = []
        for prefix, kind in (("", ""), (_UNPHASED, ", unphased targets")):
            for row in self.rows:
                pairs = [_pair(row.values, prefix, name) for name in bins]
                if any(pairs):
                    lines.append(
                        [f"{row.label}{kind}", *pairs, _text(row.values.get(f"{prefix}{_CORRELATION}"), ".3f")]
                    )
        return [["estimated / true r²", *bins, "correlation"], *lines] if lines else None

    def _cells(self, corner: str, measures: Sequence[Measure]) -> list[list[str]] | None:
        """Text of a table: header that begins with ``corner``, a line a method, the ratios; None if nothing is known.
        Empty columns and rows are left out."""
        shown = [measure for measure in measures if any(measure.name in row.values for row in self.rows)]
        if not shown:
            return None
        lines = [[corner, *[measure.title for measure in shown]]]
        for row in self.rows:
            values = [row.values.get(measure.name) for measure in shown]
            if any(value is not None for value in values):
                lines.append([row.label, *[_text(value, m.form) for value, m in zip(values, shown, strict=True)]])
        if any(measure.name in self.ratios for measure in shown):
            lines.append([_ratio_label(), *[_text(self.ratios.get(measure.name), ".3f") for measure in shown]])
        return lines


def compare(
    reports: Sequence[Mapping[str, Any]],
    references: Mapping[str, Mapping[str, Any]] | None = None,
    moments: Mapping[str, R2Sums] | None = None,
) -> Comparison:
    """Puts the reports of several variants side by side (see the module's docstring for their form).

    A baseline in several reports is taken from the first. ``references``: further points by name, each with
    ``array`` as in a report. ``moments``: of evaluations, by variant; the first report's variant that has them is the
    baseline that others are compared with in pairs. Raises InputError where a report names no variant or two name the
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
    return Comparison(rows, _ratios(variants), *_differences({name: (moments or {}).get(name) for name in variants}))


def _differences(moments: Mapping[str, R2Sums | None]) -> tuple[str, dict[str, tuple[Difference, ...]]]:
    """The first method that has moments, and the differences from it of those scored at the same sites and samples."""
    known = {name: found for name, found in moments.items() if found is not None}
    baseline, *others = (*known, "")
    paired = {name: known[name] for name in others if name and known[name].pairs_with(known[baseline])}
    return baseline, {name: paired_differences(found, known[baseline]) for name, found in paired.items()}


def _row(name: str, kind: Kind, report: Mapping[str, Any]) -> Row:
    source = dict(report)
    for form in ("", "_unphased"):
        rows = {row["bin"]: row for row in (report.get(f"array{form}") or {}).get("rows", ())}
        source[f"r2{form}"] = {key: row.get("aggregate_r2") for key, row in rows.items()}
        source[f"all{form}"] = rows.get(ALL, {})
        # Without an estimate beside it the sites' own r2 is not shown.
        told = {key: row for key, row in rows.items() if row.get("mean_estimated_r2") is not None}
        for figure in ("mean_estimated_r2", "mean_site_r2"):
            source[f"{figure}{form}"] = {key: row.get(figure) for key, row in told.items()}
    measures = (*(measure for *_, measures in _TABLES for measure in measures), *_QUALITY)
    found = {measure.name: _at(source, measure.path) for measure in measures}
    values = {key: float(value) for key, value in found.items() if _is_number(value)}
    label = method_label(name) if "version" not in report else f"{method_label(name)} {report['version']}"
    return Row(name, label, kind, values)


def _ratios(variants: Mapping[str, Row]) -> dict[str, float]:
    if not all(name in variants for name in _RATIO):
        return {}
    above, below = (variants[name].values for name in _RATIO)
    estimates = {measure.name for measure in _QUALITY}
    return {name: above[name] / below[name] for name in above if below.get(name) and name not in estimates}


def _at(report: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nested(values: Mapping[str, float]) -> dict[str, Any]:
    """What is by bin under one key a figure, and what is from unphased targets under one, as scripts read it."""
    phased = {name: value for name, value in values.items() if not name.startswith(_UNPHASED)}
    flat = {name: value for name, value in phased.items() if not name.startswith(("r2 ", _ESTIMATED, _TRUE))}
    by_bin = {kind.strip(): _by_bin(phased, kind) for kind in (_ESTIMATED, _TRUE)}
    unphased = _unphased(values)
    return {
        "r2": _r2(phased),
        **{name: figures for name, figures in by_bin.items() if figures},
        **flat,
        **({"unphased": _nested(unphased)} if unphased else {}),
    }


def _r2(values: Mapping[str, float]) -> dict[str, float]:
    """r2 by bin."""
    return _by_bin(values, "r2 ")


def _by_bin(values: Mapping[str, float], begin: str) -> dict[str, float]:
    return {name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)}


def _unphased(values: Mapping[str, float]) -> dict[str, float]:
    """What is from unphased targets, by the names of the phased."""
    return {name.removeprefix(_UNPHASED): value for name, value in values.items() if name.startswith(_UNPHASED)}


def _pair(values: Mapping[str, float], prefix: str, bin_name: str) -> str:
    """ "estimated / true" of a bin; empty where there is no estimate."""
    pair = [values.get(f"{prefix}{kind}{bin_name}") for kind in (_ESTIMATED, _TRUE)]
    return " / ".join(_text(value, ".3f") for value in pair) if None not in pair else ""


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _ratio_label() -> str:
    return " / ".join(method_label(name) for name in _RATIO)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
