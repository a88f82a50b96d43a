"""Whether GQ keeps what it promises: how often genotypes of a quality are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 10  # of a class of GQ; the last one has all from 90 on
_CLASSES = 10


@dataclass(frozen=True)
class QualityPoint:
    """``genotypes`` with GQ from ``low`` to ``high``, both inclusive: the share that is ``wrong``, and the mean of
    10^(-GQ / 10), the share that their GQ has ``promised``."""

    low: int
    high: int | None  # None: no end
    genotypes: int
    wrong: float
    promised: float

    @property
    def name(self) -> str:
        return f"{self.low}-{'' if self.high is None else self.high}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: eight decimals, because a GQ of 60 promises one in a million."""
        shares = {"wrong": round(self.wrong, 8), "promised": round(self.promised, 8)}
        return {"low": self.low, "high": self.high, "genotypes": self.genotypes, **shares}


class QualityScores:
    """Counts by class of GQ, block by block."""

    def __init__(self) -> None:
        self._sums = np.zeros((_CLASSES, 3))  # genotypes, wrong, promised

    def update(
        self, truth: npt.NDArray[np.integer], called: npt.NDArray[np.integer], quality: npt.NDArray[np.integer]
    ) -> None:
        """Adds genotypes of any one shape: true and ``called`` ALT alleles 0..2 and the call's GQ; where one of them is
        negative, the genotype does not count."""
        known = (truth >= 0) & (called >= 0) & (quality >= 0)
        gq = quality[known]
        wrong = (truth[known] != called[known]).astype(np.float64)
        which = np.minimum(gq // _WIDTH, _CLASSES - 1)
        for column, weight in enumerate((np.ones(len(gq)), wrong, 10.0 ** (-gq / 10.0))):
            self._sums[:, column] += np.bincount(which, weights=weight, minlength=_CLASSES)

    def points(self) -> Iterator[QualityPoint]:
        """Of each class that has genotypes, from the lowest GQ on."""
        for i, (genotypes, wrong, promised) in enumerate(self._sums.tolist()):
            if genotypes:
                high = None if i == _CLASSES - 1 else _WIDTH * (i + 1) - 1
                yield QualityPoint(_WIDTH * i, high, int(genotypes), wrong / genotypes, promised / genotypes)
