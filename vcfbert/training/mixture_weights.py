"""V19's mixture weights by allele frequency, fitted to known genotypes by least squares.

A dosage is linear in the mixture weights, so sums of products of the heads' dosages are sufficient statistics. The fit
minimises squared error, on which r2 depends. Cross-entropy would not do: at rare sites most of it comes from alleles
that no haplotype of the reference carries.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from vcfbert.kernels import Doubles, Floats

STEPS = 3000


@dataclass(frozen=True)
class SufficientStatistics:
    """What the squared error depends on: sums over samples and sites, float64, of x x' [m, m], x y [m] and y y.

    y is a genotype, and x a head's dosage times a knot's weight at the site; m = knots * heads.
    """

    squares: Doubles
    cross: Doubles
    truth: float

    @classmethod
    def of(cls, dosage: Floats, truth: npt.NDArray[np.int64], knots: Doubles) -> SufficientStatistics:
        """``dosage`` [heads, n, l] of ALT by each head; ``truth`` [n, l] genotypes; ``knots`` [l, knots] weights."""
        heads, _, l = dosage.shape
        between, cross = np.empty((heads, heads, l)), np.empty((heads, l))  # sums over samples
        for i in range(heads):
            cross[i] = np.einsum("nl,nl->l", dosage[i], truth, dtype=np.float64)
            for j in range(i + 1):
                between[i, j] = between[j, i] = np.einsum("nl,nl->l", dosage[i], dosage[j], dtype=np.float64)
        m = knots.shape[1] * heads
        squares = np.einsum("lk,ijl,lo->kioj", knots, between, knots, optimize=True).reshape(m, m)
        return cls(squares, np.einsum("lk,il->ki", knots, cross).reshape(m), float(np.square(truth).sum()))

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        return SufficientStatistics(self.squares + other.squares, self.cross + other.cross, self.truth + other.truth)

    def error(self, weights: Doubles) -> float:
        """Sum of squared errors with mixture weights ``weights`` [knots, heads]."""
        x = weights.reshape(-1)
        return float(x @ self.squares @ x - 2.0 * (self.cross @ x) + self.truth)


def least_error(statistics: SufficientStatistics, start: Doubles) -> Doubles:
    """The mixture weights [knots, heads] of least squared error; each row sums to 1.

    Exponentiated gradient descent from ``start`` keeps them positive (Kivinen and Warmuth 1997, Inf. Comput. 132:1). A
    knot without sites keeps its row of ``start``.
    """
    weights = start.copy()
    steepest = np.abs(statistics.squares).reshape(*start.shape, -1).max(axis=(1, 2))[:, None].clip(min=1e-9)
    for _ in range(STEPS):
        slope = (statistics.squares @ weights.reshape(-1) - statistics.cross).reshape(weights.shape)
        weights = weights * np.exp(-slope / steepest)
        weights /= weights.sum(axis=1, keepdims=True)
    return weights


def better_weights(parts: Sequence[SufficientStatistics], start: Doubles) -> tuple[Doubles, float]:
    """Mixture weights [knots, heads] fitted to all parts of the samples, and the fraction of squared error they save.

    The fraction is cross-validated: weights fitted to all other parts are applied to each part. If they save nothing
    there, the result is ``start`` and 0.
    """
    before = sum(part.error(start) for part in parts)
    crossed = 0.0
    for number, part in enumerate(parts):
        others = reduce(operator.add, [other for index, other in enumerate(parts) if index != number])
        crossed += part.error(least_error(others, start))
    if not crossed < before:
        return start, 0.0
    return least_error(reduce(operator.add, parts), start), 1.0 - crossed / before
