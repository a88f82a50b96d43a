"""How much V19's heads count at which frequency: shares of least squared error, of genotypes that are known.

A dosage is linear in the shares, so sums of products of what each head copies by itself are all that is needed. Where
ALT is rare most of a panel's own cross-entropy comes from alleles that nobody could copy; squared error is what r2 is
made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 3000


@dataclass(frozen=True)
class Products:
    """Sums over samples and sites, float64: of x x' [m, m], of x y [m] and of y y, where y is a genotype and x a head's
    dosage times a knot's weight at the site, m = knots * heads."""

    squares: Tensor
    cross: Tensor
    truth: Tensor

    @classmethod
    def of(cls, dosage: Tensor, truth: Tensor, knots: Tensor) -> Products:
        """``dosage`` [heads, n, l] of ALT by each head, ``truth`` [n, l], ``knots`` [l, knots]."""
        dosage, truth, knots = dosage.double(), truth.double(), knots.double()
        between = torch.einsum("inl,jnl->ijl", dosage, dosage)
        m = knots.shape[1] * len(dosage)
        return cls(
            torch.einsum("lk,ijl,lo->kioj", knots, between, knots).reshape(m, m),
            torch.einsum("lk,inl,nl->ki", knots, dosage, truth).reshape(m),
            truth.square().sum(),
        )

    def __add__(self, other: Products) -> Products:
        return Products(self.squares + other.squares, self.cross + other.cross, self.truth + other.truth)

    def error(self, shares: Tensor) -> float:
        """Sum of squared errors with ``shares`` [knots, heads]."""
        x = shares.double().reshape(-1)
        return float(x @ self.squares @ x - 2.0 * (self.cross @ x) + self.truth)


def least_error(products: Products, start: Tensor) -> Tensor:
    """The shares [knots, heads], rows of sum 1, of the least error, from ``start``, by exponentiated gradients (Kivinen
    and Warmuth 1997, Inf. Comput. 132:1), which keep them positive. A knot without sites stays as it is."""
    shares = start.double().clone()
    steepest = products.squares.abs().view(*start.shape, -1).amax(dim=(1, 2), keepdim=True).squeeze(-1)  # [knots, 1]
    for _ in range(STEPS):
        slope = (products.squares @ shares.reshape(-1) - products.cross).view_as(shares)
        shares = shares * torch.exp(-slope / steepest.clamp(min=1e-9))
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.to(start.dtype)


def better_shares(halves: tuple[Products, Products], start: Tensor) -> tuple[Tensor, float]:
    """Shares fitted to both halves of the samples, or ``start`` if each half's, used on the other one, are no better;
    and the share of the squared error that they save there, 0 where they are not kept."""
    before = sum(half.error(start) for half in halves)
    crossed = sum(half.error(least_error(other, start)) for half, other in zip(halves, reversed(halves), strict=True))
    if not crossed < before:
        return start, 0.0
    return least_error(halves[0] + halves[1], start), 1.0 - crossed / before
