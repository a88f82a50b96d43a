"""V19's parameters: a mixture of Li-Stephens HMMs whose rates and mixture weights are fitted to each panel.

A target haplotype is a mosaic of K reference haplotypes (Li and Stephens 2003, Genetics 165:2213). Between typed sites
d cM apart a switch happens with probability 1 - exp(-r d). The next haplotype is then haplotype k with probability
softmax(-PRIOR_STRENGTH * d_k), where d_k is its fraction of mismatches at the target's typed sites. At a typed site the
observed allele differs from the copied one with a small mismatch probability. Several such HMMs, the *heads*, are mixed
by weights that depend on a site's minor-allele frequency (MAF). A copied allele is inherited, but for a small
probability of loss or gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.copying.haploid import MIN_SWITCH, Heads
from vcfbert.kernels import Doubles, Floats, Indices

# Rates of the heads, as multiples of a mixture's (switches per cM, mismatch probability). The last head switches so
# often that its state depends on a few typed sites only, and its weight spreads over all haplotypes that match there.
# By itself it is a poor model, but it helps where ALT is so rare that no single match is good evidence.
HEADS: Final = ((1.0, 1.0), (2.0, 20.0), (32.0, 10.0))
MAX_MISMATCH: Final = 0.3
KNOTS: Final = (-3.0, -2.3, -2.0, -1.3, -0.5)  # log10 MAF between which mixture weights are interpolated
PRIOR_STRENGTH: Final = 2.0
NOT_INHERITED: Final = 1e-4  # probability that a copied ALT is lost, and that a copied REF becomes ALT


@dataclass(frozen=True)
class Rates:
    """The parameters of one HMM: switches per cM, and the probability that an observed allele is not the copied one."""

    switches_per_cm: float
    mismatch: float

    def stay(self, cm: Doubles) -> Floats:
        """[t]: probability of no switch before each site at ``cm`` [t]; 0 at the first, whose state is of the prior."""
        kept = np.exp(-self.switches_per_cm * np.diff(cm)).clip(max=1.0 - MIN_SWITCH)
        return np.concatenate([[0.0], kept]).astype(np.float32)

    def of_head(self, number: int) -> Rates:
        """The rates of head ``number`` in a mixture of these rates."""
        rate, mismatch = HEADS[number]
        return Rates(self.switches_per_cm * rate, min(self.mismatch * mismatch, MAX_MISMATCH))


FIRST_RATES: Final = Rates(7.5, 2e-3)  # the textbook's, from which a search starts
FIRST_WEIGHTS: Final = (0.495, 0.495, 0.01)


def _first_weights() -> Doubles:
    return np.tile(np.array(FIRST_WEIGHTS), (len(KNOTS), 1))


@dataclass(frozen=True)
class Mixture:
    """All heads: their rates are multiples of ``rates``. ``weights`` [knots, heads]: of the mixture, rows sum to 1.

    A study may have other values than V19: fewer columns of weights, for the first heads alone, and another prior.
    """

    rates: Rates
    weights: Doubles
    prior_strength: float = PRIOR_STRENGTH  # 0: the same probability for all haplotypes

    @classmethod
    def first(cls, rates: Rates = FIRST_RATES) -> Mixture:
        """``rates`` with the weights that a fit starts from."""
        return cls(rates, _first_weights())

    def heads(self, key_cm: Doubles, key_af: Doubles, af: Doubles) -> Heads:
        """The heads at t typed sites (``key_cm``, ``key_af`` [t]) and l sites of a window (``af`` [l])."""
        all_rates = [self.rates.of_head(number) for number in range(self.weights.shape[1])]
        mismatch = np.array([rates.mismatch for rates in all_rates], dtype=np.float32)
        return Heads(
            stay=np.stack([rates.stay(key_cm) for rates in all_rates]),
            mismatch=np.repeat(mismatch[:, None], len(key_cm), axis=1),
            mixture=self._weights_at(af),
            key_mixture=self._weights_at(key_af),
        )

    def _weights_at(self, af: Doubles) -> Floats:
        """Mixture weights float32 [heads, l] at sites of ALT frequency ``af`` [l]; columns sum to 1."""
        return np.ascontiguousarray((knot_weights(np.minimum(af, 1.0 - af)) @ self.weights).T, dtype=np.float32)


@dataclass(frozen=True)
class CopyingModel:
    """V19: mixtures for a phase that is given or inferred and for sampled phasings, and the rates of the pair HMM.

    Phasings sampled from the HMM of pairs follow its mosaics, so they need other rates than a phase that is given or
    inferred once.
    """

    phased: Mixture
    sampled: Mixture
    pair: Rates

    @classmethod
    def first(cls) -> CopyingModel:
        """The model that a fit starts from."""
        return cls(Mixture.first(), Mixture.first(), FIRST_RATES)

    def mixture(self, *, sampled: bool) -> Mixture:
        return self.sampled if sampled else self.phased

    def as_arrays(self) -> dict[str, Doubles]:
        """The parameters as named arrays, float64: what a bundle stores."""
        rates = [self.phased.rates, self.sampled.rates, self.pair]
        return {
            "rates": np.array([[one.switches_per_cm, one.mismatch] for one in rates]),
            "phased_weights": self.phased.weights,
            "sampled_weights": self.sampled.weights,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> CopyingModel:
        """The model of ``as_arrays``. Raises ValueError if the arrays have other names, shapes or values."""
        shape = (len(KNOTS), len(HEADS))
        expected = {"rates": (3, 2), "phased_weights": shape, "sampled_weights": shape}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ValueError(f"arrays of shapes {expected} expected")
        values = {name: array.astype(np.float64) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() and (array >= 0.0).all() for array in values.values()):
            raise ValueError("a value is negative or not finite")
        if not ((values["rates"][:, 1] > 0.0) & (values["rates"][:, 1] <= 0.5)).all():
            raise ValueError("mismatch must lie in (0, 0.5]")
        if not all(np.allclose(values[name].sum(axis=1), 1.0) for name in ("phased_weights", "sampled_weights")):
            raise ValueError("mixture weights must sum to 1 at each knot")
        phased, sampled, pair = (Rates(rate, mismatch) for rate, mismatch in values["rates"].tolist())
        return cls(Mixture(phased, values["phased_weights"]), Mixture(sampled, values["sampled_weights"]), pair)

    @property
    def takes_unphased(self) -> bool:
        return True

    @property
    def n_parameters(self) -> int:
        return sum(array.size for array in self.as_arrays().values())


def _between_knots(maf: Doubles) -> tuple[Indices, Doubles]:
    """The upper of the two knots around each ``maf`` [l], and the place between them, from 0 to 1: both [l]."""
    knots = np.array(KNOTS)
    place = np.log10(maf.clip(min=1e-6)).clip(KNOTS[0], KNOTS[-1])
    upper = np.ones(len(maf), dtype=np.int64)
    for knot in KNOTS[1:-1]:  # fewer than a binary search is fast for
        upper += place > knot
    return upper, (place - knots[upper - 1]) / (knots[upper] - knots[upper - 1])


def knot_weights(maf: Doubles) -> Doubles:
    """[l, knots]: weights of linear interpolation in log10 MAF between the two knots around each ``maf`` [l]."""
    upper, fraction = _between_knots(maf)
    weights = np.zeros((len(maf), len(KNOTS)))
    rows = np.arange(len(maf))
    weights[rows, upper - 1] = 1.0 - fraction
    weights[rows, upper] = fraction
    return weights


def inherited(copied: Floats) -> Floats:
    """ALT probability after inheritance, in place, from that of the ``copied`` allele."""
    copied *= np.float32(1.0 - 2.0 * NOT_INHERITED)
    copied += np.float32(NOT_INHERITED)
    return copied


def prior(
    mismatches: npt.NDArray[np.integer], n_typed: npt.NDArray[np.integer], strength: float = PRIOR_STRENGTH
) -> Floats:
    """Probability float32 [n, k] of each state after a switch; rows sum to 1.

    ``mismatches`` [n, k]: typed sites at which a state differs from the target. ``n_typed`` [n]: of the target's calls.
    """
    distance = mismatches / n_typed[:, None].clip(min=1)
    weights = np.exp(-strength * (distance - distance.min(axis=1, keepdims=True)))
    out: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return out
