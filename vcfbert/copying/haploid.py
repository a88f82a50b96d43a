"""The haploid Li-Stephens HMMs (``li_stephens.py``), with targets divided among threads.

Copying probabilities are summed over the distinct rows of each interval between typed sites (``intervals.py``). The
dosage of a site is the sum over the few rows that carry ALT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from vcfbert.copying.intervals import GROUP, Intervals, row_alleles
from vcfbert.copying.li_stephens import Problem, posteriors
from vcfbert.genotypes.site_blocks import Rows
from vcfbert.kernels import Alleles, Calls, Doubles, Floats, Indices, Numbers, compiled, divide_among_threads

LANES: Final = 4  # heads at most; four float32 are one of the processor's shortest vectors

# Least probability of a switch between two typed sites. Where a map is flat, the forward pass would otherwise reach 0
# for some states, and the backward pass for all others.
MIN_SWITCH: Final = 1e-6
# A row of an interval is dropped if its copying probability is below this, divided by the number of states. All dropped
# rows together change a dosage by less than a hundredth of the last written digit.
MAX_DROPPED: Final = 1e-5
# Bytes of forward messages that a thread keeps: a small part of the second-level cache.
FORWARD_BYTES: Final = 1 << 17


@dataclass(frozen=True)
class Heads:
    """Parameters of h Li-Stephens models (heads) and of their mixture."""

    stay: Floats  # [h, t], probability of no switch before each typed site
    mismatch: Floats  # [h, t], probability that the observed allele differs from the copied one
    mixture: Floats  # [h, l], mixture weights at the window's sites; columns sum to 1
    key_mixture: Floats  # [h, t], the same at the typed sites

    def alone(self, number: int) -> Heads:
        """Head ``number`` as the only one."""
        one = slice(number, number + 1)
        whole = (np.ones_like(self.mixture[one]), np.ones_like(self.key_mixture[one]))
        return Heads(self.stay[one], self.mismatch[one], *whole)


@dataclass(frozen=True)
class Copied:
    """ALT probabilities of n target haplotypes.

    ``dosage`` float32 [n, l]: at the window's sites. ``loo`` float32 [n, t]: leave-one-out probability at each typed
    site, as if it had not been typed; NaN where the call is missing.
    """

    dosage: Floats
    loo: Floats


def copy(
    observed: Calls,
    alleles: Alleles,
    states: Numbers,
    prior: Floats,
    heads: Heads,
    intervals: Intervals,
    fraction: Floats,
    *,
    threads: int = 1,
    forward_bytes: int = FORWARD_BYTES,
) -> Copied:
    """ALT probabilities of n target haplotypes by the mixture of ``heads``.

    ``observed`` int8 [t, n]: alleles at typed sites, -1 where missing. ``alleles`` uint8 [t, r] of the reference
    haplotypes. ``states`` int32 [n, k]: which of the r each target may copy. ``prior`` float32 [n, k]: probability of
    each state after a switch, rows of sum 1. ``fraction`` float32 [l]: the site's place between its two typed
    neighbours, in genetic distance from 0 (left) to 1 (right); 1 before the first typed site and 0 after the last.
    ``forward_bytes``: of the forward messages that a thread keeps, but at least those of sqrt(t) typed sites.

    Raises ValueError for more than LANES heads.
    """
    (t, n), h = observed.shape, len(heads.stay)
    if h > LANES:
        raise ValueError(f"at most {LANES} heads, not {h}")
    dosage, loo = np.empty((n, len(fraction)), dtype=np.float32), np.empty((n, t), dtype=np.float32)
    stay = np.minimum(heads.stay, np.float32(1.0 - MIN_SWITCH))
    hmm = Hmm(np.ascontiguousarray(observed.T), alleles, states, prior, stay, heads.mismatch, heads.key_mixture)
    decoder = Decoder.of(intervals, heads.mixture, fraction)
    span = max(math.isqrt(t), min(t, forward_bytes // (4 * h * states.shape[1])), 1)

    def work(targets: Indices) -> None:
        copy_targets(targets, hmm, decoder, span, MAX_DROPPED, dosage, loo)

    divide_among_threads(work, n, threads)
    return Copied(dosage, loo)


class Hmm(NamedTuple):
    """What the forward and backward pass read; see ``copy``."""

    observed: Calls  # [n, t]
    alleles: Alleles  # [t, r]
    states: Numbers  # [n, k]
    prior: Floats  # [n, k]
    stay: Floats  # [h, t]
    mismatch: Floats  # [h, t]
    key_mixture: Floats  # [h, t]


class Decoder(NamedTuple):
    """What turns copying probabilities into dosages."""

    number: Numbers  # [groups, r, GROUP], as in ``Intervals``
    bounds: Indices  # [t + 2]
    counts: Indices  # [t + 1]
    first_word: Indices  # [t + 1]
    words: Rows
    mixing: Floats  # [l, 2, LANES], mixture weights of the heads at the left and at the right end of an interval

    @classmethod
    def of(cls, intervals: Intervals, mixture: Floats, fraction: Floats) -> Decoder:
        """``mixture`` [h, l], ``fraction`` [l]: as in ``Heads`` and ``copy``."""
        mixing = np.zeros((len(fraction), 2, LANES), dtype=np.float32)
        for end, weights in enumerate((mixture * (1.0 - fraction), mixture * fraction)):
            mixing[:, end, : len(weights)] = weights.T
        rows = (intervals.number, intervals.bounds, intervals.counts, intervals.first_word, intervals.words)
        return cls(*rows, mixing)


@compiled
def copy_targets(
    targets: Indices, hmm: Hmm, decoder: Decoder, span: int, max_dropped: float, dosage: Floats, loo: Floats
) -> None:
    """Fills the rows of ``targets`` in ``dosage`` [n, l] and ``loo`` [n, t].

    The twin keeps the forward messages of one ``span`` of typed sites at a time. It drops the rows of an interval whose
    copying probability is below ``max_dropped``, divided by the number of states.
    """
    for target in targets:
        calls, own = hmm.observed[target], hmm.states[target]
        alleles = hmm.alleles[:, own]
        each = [
            posteriors(Problem(calls, alleles, hmm.prior[target], stay, mismatch))
            for stay, mismatch in zip(hmm.stay, hmm.mismatch, strict=True)
        ]
        copied = np.stack(each, axis=-1)  # [t, k, h]
        loo[target] = _without_call(calls, np.einsum("tkh,tk->ht", copied, alleles != calls[:, None]), hmm)
        ends = np.pad(copied, ((1, 1), (0, 0), (0, LANES - copied.shape[2])))
        for s, (start, stop) in enumerate(pairwise(decoder.bounds.tolist())):
            rows = np.zeros((decoder.counts[s], 2, LANES))
            np.add.at(rows, decoder.number[s // GROUP, own, s % GROUP], np.stack([ends[s], ends[s + 1]], axis=1))
            has_alt = row_alleles(decoder.bounds, decoder.counts, decoder.first_word, decoder.words, s)
            at_sites = np.einsum("rs,reh->seh", has_alt.astype(np.float64), rows)
            dosage[target, start:stop] = (at_sites * decoder.mixing[start:stop]).sum(axis=(1, 2))


def _without_call(calls: Calls, mismatched: Doubles, hmm: Hmm) -> Doubles:
    """Leave-one-out ALT probability [t] of one target at its typed sites.

    A site's own call enters its posterior as one emission factor, which is divided out. ``mismatched`` [h, t]:
    posterior of the states that do not carry the call.
    """
    other = mismatched / hmm.mismatch
    other /= other + (1.0 - mismatched) / (1.0 - hmm.mismatch)
    mean = (other * hmm.key_mixture).sum(axis=0)
    return np.where(calls < 0, np.nan, np.where(calls == 1, 1.0 - mean, mean))
