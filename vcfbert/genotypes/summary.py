"""Summary figures of an imputed file, counted while its records are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MAF_BINS
from vcfbert.genotypes.panel import Panel

_DR2_BINS: Final = 20
# Bins of GQ. Probabilities in thousandths do not resolve a GQ above 30.
_GQ_EDGES: Final = (0, 5, 10, 15, 20, 25, 30, 99)
_COUNTS: Final = ("_dr2_sum", "_dr2_count", "_dr2_histogram", "_certainty", "_n_written", "_n_left_out")


class Summary:
    """Counts sites at which no sample was typed, and the genotypes of biallelic records there."""

    def __init__(self, panel: Panel) -> None:
        edges = [low for low, _ in MAF_BINS]
        self._maf_bin = np.where(panel.maf > 0.0, np.digitize(panel.maf, edges) - 1, -1)  # -1: monomorphic
        self._dr2_sum = np.zeros(len(MAF_BINS))
        self._dr2_count = np.zeros(len(MAF_BINS), dtype=np.int64)
        self._dr2_histogram = np.zeros(_DR2_BINS, dtype=np.int64)
        self._certainty = np.zeros(1001, dtype=np.int64)  # genotypes by probability in thousandths
        self._n_written = 0
        self._n_left_out = 0

    def add_sites(
        self,
        site: npt.NDArray[np.int64],
        dr2: npt.NDArray[np.float64],
        typed: npt.NDArray[np.bool_],
        kept: npt.NDArray[np.bool_],
    ) -> None:
        """Counts panel sites ``site`` [l] with their DR2. ``kept`` [l] is True where the record is written."""
        self._n_written += int(kept.sum())
        self._n_left_out += int((~kept).sum())
        counted = kept & ~typed & (self._maf_bin[site] >= 0)
        bins, dr2 = self._maf_bin[site[counted]], dr2[counted]
        self._dr2_sum += np.bincount(bins, weights=dr2, minlength=len(MAF_BINS))
        self._dr2_count += np.bincount(bins, minlength=len(MAF_BINS))
        place = np.minimum((dr2 * _DR2_BINS).astype(np.int64), _DR2_BINS - 1)
        self._dr2_histogram += np.bincount(place, minlength=_DR2_BINS)

    def add_genotypes(self, counts: npt.NDArray[np.int64]) -> None:
        """Adds the ``counts`` [1001] of written genotypes by probability in thousandths."""
        self._certainty += counts

    def counts(self) -> dict[str, Any]:
        """All counts as JSON values, for ``add_counts`` of another summary."""
        return {name: np.asarray(getattr(self, name)).tolist() for name in _COUNTS}

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Adds the ``counts`` of another summary, of the same panel or of another."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + np.asarray(counts[name]))

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values.

        ``dr2_by_maf`` has bins of the panel's MAF. Bins are half-open, the last one closed. ``mean_dr2`` is None in an
        empty bin.
        """
        means = [s / n if n else None for s, n in zip(self._dr2_sum.tolist(), self._dr2_count.tolist(), strict=True)]
        return {
            "n_sites": int(self._n_written),
            "n_left_out": int(self._n_left_out),
            "dr2_by_maf": [
                {"low": low, "high": min(high, 0.5), "n": n, "mean_dr2": None if mean is None else round(mean, 6)}
                for (low, high), n, mean in zip(MAF_BINS, self._dr2_count.tolist(), means, strict=True)
            ],
            "dr2_histogram": [
                {"low": i / _DR2_BINS, "high": (i + 1) / _DR2_BINS, "n": n}
                for i, n in enumerate(self._dr2_histogram.tolist())
            ],
            "gq_histogram": self._gq_histogram(),
        }

    def _gq_histogram(self) -> list[dict[str, int]]:
        wrong = np.maximum(1.0 - np.arange(1001) / 1000, 1e-10)
        # 1e-9 makes up for rounding: a probability of 0.9 has a GQ of 10 and not of 9.99...
        place = np.digitize(-10.0 * np.log10(wrong) + 1e-9, _GQ_EDGES[1:-1])
        counts = np.bincount(place, weights=self._certainty, minlength=len(_GQ_EDGES) - 1).astype(np.int64)
        rows = zip(_GQ_EDGES[:-1], _GQ_EDGES[1:], counts.tolist(), strict=True)
        return [{"low": low, "high": high, "n": n} for low, high, n in rows]
