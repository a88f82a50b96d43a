"""The measures that a comparison shows, and the arithmetic on their names.

A measure from unphased targets has the name of the phased one behind ``UNPHASED``. A measure by MAF bin ends with
the bin's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.metrics.accuracy import ALL


@dataclass(frozen=True)
class Measure:
    """One compared figure: its place in a report and its format in a table."""

    name: str
    title: str  # of its column, with the unit
    path: tuple[str, ...]  # keys into a report
    form: str = ".4f"


UNPHASED = "unphased "  # prefix of the names of measures from unphased targets


def _targets(prefix: str, form: str) -> tuple[Measure, ...]:
    """Measures at the targets' untyped sites. ``form`` is the suffix of the report's keys for these targets."""
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
_ACCURACY_UNPHASED = _targets(UNPHASED, "_unphased")
COST = (
    Measure("ms_per_batch", "ms/batch", ("training", "ms_per_batch"), ",.1f"),
    Measure("peak_memory_mb", "peak memory, MB", ("training", "peak_memory_mb"), ",.0f"),
    Measure("refreshes", "refreshes", ("training", "refreshes"), ",.0f"),
    Measure("refresh_seconds", "refresh, s", ("training", "refresh_seconds"), ",.2f"),
    Measure("refresh_share", "refresh / epoch", ("training", "refresh_share"), ".2%"),
    Measure("parameters", "parameters", ("training", "parameters"), ",.0f"),
    Measure("epochs", "epochs", ("training", "epochs"), ",.0f"),
    Measure("training_seconds", "training, s", ("training", "seconds"), ",.0f"),
    Measure("imputation_seconds", "imputation, s", ("imputation", "seconds"), ",.1f"),
    Measure(f"{UNPHASED}imputation_seconds", "imputation, unphased, s", ("imputation_unphased", "seconds"), ",.1f"),
)
# The costs on the x axes of the figure of quality against cost.
SPENT = ("ms_per_batch", "peak_memory_mb", "refreshes", "training_seconds", "imputation_seconds")
ESTIMATED, TRUE = "estimated_r2 ", "site_r2 "  # prefixes of the names of means over sites, by bin
CORRELATION = "estimate_correlation"


def _quality(prefix: str, form: str) -> tuple[Measure, ...]:
    """Estimated and true r2 of the imputed files. The arguments are those of ``_targets``."""
    by_bin = (
        Measure(f"{prefix}{kind}{name}", "", (f"{key}{form}", name))
        for name in (*MAF_BIN_NAMES, ALL)
        for kind, key in ((ESTIMATED, "mean_estimated_r2"), (TRUE, "mean_site_r2"))
    )
    return (*by_bin, Measure(f"{prefix}{CORRELATION}", "", (f"all{form}", CORRELATION)))


QUALITY = (*_quality("", ""), *_quality(UNPHASED, "_unphased"))
# Title, header of the methods' column, measures. docs/results/accuracy.md shows the tables without titles.
TABLES = (
    ("Accuracy", "method", _ACCURACY),
    ("Accuracy from unphased targets", "method, unphased targets", _ACCURACY_UNPHASED),
    ("Cost", "method", COST),
)
# Panels of bars in the figure: title and measure.
BARS = (
    ("F1, masked sites", "f1"),
    ("F1, masked rare sites", "rare_f1"),
    ("Training, ms per batch", "ms_per_batch"),
    ("Training, peak MB", "peak_memory_mb"),
    ("Imputation, s", "imputation_seconds"),
    ("Imputation, unphased, s", f"{UNPHASED}imputation_seconds"),
    ("One refresh, s", "refresh_seconds"),
)
RATIO = ("v18", "v17")  # the variants of the last line of a table: the first divided by the second


def value_at(report: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at the keys of ``path``; None if one of them is missing."""
    value: Any = report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def is_number(value: Any) -> bool:
    """Whether the value is a finite number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def nested(values: Mapping[str, float]) -> dict[str, Any]:
    """The values as nested JSON: a key for each figure by bin, and the key ``unphased`` for unphased targets."""
    phased = {name: value for name, value in values.items() if not name.startswith(UNPHASED)}
    flat = {name: value for name, value in phased.items() if not name.startswith(("r2 ", ESTIMATED, TRUE))}
    by_bin = {kind.strip(): _by_bin(phased, kind) for kind in (ESTIMATED, TRUE)}
    from_unphased = unphased(values)
    return {
        "r2": r2_by_bin(phased),
        **{name: figures for name, figures in by_bin.items() if figures},
        **flat,
        **({"unphased": nested(from_unphased)} if from_unphased else {}),
    }


def r2_by_bin(values: Mapping[str, float]) -> dict[str, float]:
    """The aggregate r2 among the values, by bin."""
    return _by_bin(values, "r2 ")


def _by_bin(values: Mapping[str, float], begin: str) -> dict[str, float]:
    return {name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)}


def unphased(values: Mapping[str, float]) -> dict[str, float]:
    """The values from unphased targets, named as those from phased targets."""
    return {name.removeprefix(UNPHASED): value for name, value in values.items() if name.startswith(UNPHASED)}
