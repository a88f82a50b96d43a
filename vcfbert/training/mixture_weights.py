"""V19's mixture weights by allele frequency, fitted to known genotypes by least squares.

A dosage is linear in the mixture weights, so sums of products of the heads' dosages are sufficient statistics. The fit
minimises squared error, on which r2 depends. Cross-entropy would not do: at rare sites most of it comes from alleles
that no haplotype of the reference carries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 3000


@dataclass(frozen=True)
class SufficientStatistics:
    """What the squared error depends on: sums over samples and sites, float64, of x x' [m, m], x y [m] and y y.

    y is a genotype, and x a head's dosage times a knot's weight at the site; m = knots * heads.
    """

    squares: Tensor
    cross: Tensor
    truth: Tensor

    @classmethod
    def of(cls, dosage: Tensor, truth: Tensor, knots: Tensor) -> SufficientStatistics:
        """``dosage`` [heads, n, l] of ALT by each head; ``truth`` [n, l] genotypes; ``knots`` [l, knots] weights."""
        dosage, truth, knots = dosage.double(), truth.double(), knots.double()
        between = torch.einsum("inl,jnl->ijl", dosage, dosage)
        m = knots.shape[1] * len(dosage)
        return cls(
            torch.einsum("lk,ijl,lo->kioj", knots, between, knots).reshape(m, m),
            torch.einsum("lk,inl,nl->ki", knots, dosage, truth).reshape(m),
            truth.square().sum(),
        )

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        return SufficientStatistics(self.squares + other.squares, self.cross + other.cross, self.truth + other.truth)

    def error(self, weights: Tensor) -> float:
        """Sum of squared errors with mixture weights ``weights`` [knots, heads]."""
        x = weights.double().reshape(-1)
        return float(x @ self.squares @ x - 2.0 * (self.cross @ x) + self.truth)


def least_error(statistics: SufficientStatistics, start: Tensor) -> Tensor:
    """The mixture weights [knots, heads] of least squared error; each row sums to 1.

    Exponentiated gradient descent from ``start`` keeps them positive (Kivinen and Warmuth 1997, Inf. Comput. 132:1). A
    knot without sites keeps its row of ``start``.
    """
    weights = start.double().clone()
    steepest = statistics.squares.abs().view(*start.shape, -1).amax(dim=(1, 2), keepdim=True).squeeze(-1)  # [knots, 1]
    for _ in range(STEPS):
        slope = (statistics.squares @ weights.reshape(-1) - statistics.cross).view_as(weights)
        weights = weights * torch.exp(-slope / steepest.clamp(min=1e-9))
        weights = weights / weights.sum(dim=1, keepdim=True)
    return weights.to(start.dtype)


def better_weights(halves: tuple[SufficientStatistics, SufficientStatistics], start: Tensor) -> tuple[Tensor, float]:
    """Mixture weights [knots, heads] fitted to both halves of the samples, and the fraction of squared error they save.

    The fraction is cross-validated: weights fitted to each half are applied to the other half. If they save nothing
    there, the result is ``start`` and 0.
    """
    before = sum(half.error(start) for half in halves)
    crossed = sum(half.error(least_error(other, start)) for half, other in zip(halves, reversed(halves), strict=True))
    if not crossed < before:
        return start, 0.0
    return least_error(halves[0] + halves[1], start), 1.0 - crossed / before
