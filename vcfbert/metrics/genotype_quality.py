"""Calibration of GQ: the observed error rate of genotypes by their quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 10  # GQ values per class; the last class has all from 90 upwards
_CLASSES = 10


@dataclass(frozen=True)
class QualityPoint:
    """The genotypes with GQ from ``low`` to ``high``, both inclusive.

    ``genotypes`` is their number and ``wrong`` their error rate. ``promised`` is the error rate by their GQ: the mean
    of 10^(-GQ / 10).
    """

    low: int
    high: int | None  # None = no upper bound
    genotypes: int
    wrong: float
    promised: float

    @property
    def name(self) -> str:
        """For example '20-29'; '90-' without an upper bound."""
        return f"{self.low}-{'' if self.high is None else self.high}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: eight decimals, because a GQ of 60 means an error rate of one in a million."""
        rates = {"wrong": round(self.wrong, 8), "promised": round(self.promised, 8)}
        return {"low": self.low, "high": self.high, "genotypes": self.genotypes, **rates}


class QualityScores:
    """Accumulates counts by class of GQ."""

    def __init__(self) -> None:
        self._sums = np.zeros((_CLASSES, 3))  # genotypes, wrong, promised

    def update(
        self, truth: npt.NDArray[np.integer], called: npt.NDArray[np.integer], quality: npt.NDArray[np.integer]
    ) -> None:
        """Adds genotypes: true and ``called`` ALT alleles 0..2 and the GQ of the call, all of one shape.

        A genotype with a negative value among the three is excluded.
        """
        known = (truth >= 0) & (called >= 0) & (quality >= 0)
        gq = quality[known]
        wrong = (truth[known] != called[known]).astype(np.float64)
        which = np.minimum(gq // _WIDTH, _CLASSES - 1)
        for column, weight in enumerate((np.ones(len(gq)), wrong, 10.0 ** (-gq / 10.0))):
            self._sums[:, column] += np.bincount(which, weights=weight, minlength=_CLASSES)

    def points(self) -> Iterator[QualityPoint]:
        """One point per class that has genotypes, from the lowest GQ upwards."""
        for i, (genotypes, wrong, promised) in enumerate(self._sums.tolist()):
            if genotypes:
                high = None if i == _CLASSES - 1 else _WIDTH * (i + 1) - 1
                yield QualityPoint(_WIDTH * i, high, int(genotypes), wrong / genotypes, promised / genotypes)
