"""What the records of imputed sites say of their samples, in whole thousandths.

All fields but GQ are derived from haplotype dosages (HDS) in whole thousandths, so that the fields of a record agree:
DS is the sum of the two HDS, GT is the rounded HDS, GP sums to 1, and the expectation of GP is DS. A haploid sample has
one HDS, which is also its DS, a GT of one allele and a GP of two values.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.errors import VcfbertError
from vcfbert.genotypes.imputed import ImputedBlock, empirical_r2, estimated_r2
from vcfbert.kernels import Calls, Doubles, Floats, Indices, compiled

ONE: Final = 1000  # probabilities are in whole thousandths
HALF: Final = 500
MAX_GQ: Final = 99
NO_GQ: Final = 100  # stands for '.'

_TOLERANCE: Final = np.float32(0.5 / ONE)  # float32 arithmetic may exceed 1 slightly
_NOT_PROBABILITIES: Final = 1

Thousandths = npt.NDArray[np.int16]
Flags = npt.NDArray[np.bool_]
Qualities = npt.NDArray[np.uint8]


class RecordValues(NamedTuple):
    """What r records of l sites say of n samples. REF and ALT are those of the record."""

    hds: Thousandths  # [l, n, 2], 0 in place of a haploid sample's second
    two: Thousandths  # [l, n], probability of two ALT alleles; 0 in multiallelic records
    # [l, n]: 0 to MAX_GQ, or NO_GQ where all alleles are the input's, because the input's own quality is not known.
    # That of a multiallelic record is in the row of its first site. Empty without GQ.
    gq: Qualities
    total: Indices  # [l], sum of ``hds``
    dr2: Doubles  # [l]
    er2: Doubles  # [l], NaN at sites without it
    typed: Flags  # [l], True where a sample was typed
    kept: Flags  # [r], False where no sample was typed and the DR2 of each ALT allele is below the minimum


class _Imputed(NamedTuple):
    """The arrays of an ``ImputedBlock``; empty where it has None."""

    dosage: Floats
    calls: Calls
    genotype: Floats
    loo: Floats


def record_values(
    block: ImputedBlock,
    first: Indices,
    *,
    haploid: Flags,
    swapped: Flags,
    min_dr2: float,
    with_quality: bool,
) -> tuple[RecordValues, Indices]:
    """What the records of a block say. Record i has the block's sites ``first[i]`` to ``first[i + 1] - 1``.

    ``haploid`` [n]: see ``ImputedBlock``. ``swapped`` [l] is True where REF and ALT are written exchanged. Also
    returns the counts [ONE + 1] of genotypes by probability in thousandths. They cover the biallelic records that are
    kept and have no typed sample. Raises VcfbertError('probability_invalid') if a value of the block is no probability.
    """
    shape = block.haplotype_dosage.shape
    n_sites, n_samples = shape[0], shape[1]
    values = RecordValues(
        np.empty(shape, np.int16),
        np.empty((n_sites, n_samples), np.int16),
        np.empty((n_sites if with_quality else 0, n_samples), np.uint8),
        np.empty(n_sites, np.int64),
        np.empty(n_sites),
        np.empty(n_sites),
        np.empty(n_sites, np.bool_),
        np.empty(len(first) - 1, np.bool_),
    )
    empty = np.empty((0, n_samples, 3), np.float32)
    arrays = (
        (empty if array is None else np.ascontiguousarray(array, dtype=np.float32))
        for array in (block.genotype_probability, block.loo_dosage)
    )
    dosage = np.ascontiguousarray(block.haplotype_dosage, dtype=np.float32)
    imputed = _Imputed(dosage, np.ascontiguousarray(block.calls), *arrays)
    certainty = np.zeros(ONE + 1, np.int64)
    if round_records(imputed, first, haploid, swapped, min_dr2, values, certainty) == _NOT_PROBABILITIES:
        raise _not_probabilities(block)
    return values, certainty


def _not_probabilities(block: ImputedBlock) -> VcfbertError:
    values = [np.where(block.calls >= 0, block.calls, block.haplotype_dosage).reshape(-1)]
    if block.genotype_probability is not None:
        values.append(block.genotype_probability[..., 2].reshape(-1))
    lowest, highest = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return VcfbertError(
        "probability_invalid",
        f"the model returned values that are not probabilities ({lowest} to {highest})",
        hint="the model's weights may be damaged: run `vcfbert bundle verify`",
    )


@compiled
def round_records(
    imputed: _Imputed,
    first: Indices,
    haploid: Flags,
    swapped: Flags,
    min_dr2: float,
    values: RecordValues,
    certainty: Indices,
) -> int:
    """Fills ``values`` and adds to ``certainty``; see ``record_values``. Returns 1 if a value is no probability.

    In a multiallelic record, dosages of a haplotype that sum to more than 1 are rescaled to 1. Its haplotypes are taken
    as independent, because genotype probabilities by site do not contain the joint probability of ALT alleles.
    """
    for record, (start, stop) in enumerate(pairwise(first.tolist())):
        sites = slice(start, stop)
        dosage, calls = imputed.dosage[sites], imputed.calls[sites]
        hds = np.where(calls >= 0, calls, dosage).astype(np.float32)  # [k, n, 2]
        if stop - start > 1:
            hds = hds * (1.0 / np.maximum(hds.sum(axis=0, dtype=np.float64), 1.0))
        if not _are_probabilities(hds):
            return _NOT_PROBABILITIES
        q = _thousandths(hds)
        if stop - start == 1 and swapped[start]:
            q = ONE - q
        q[:, haploid, 1] = 0
        values.hds[sites], values.total[sites] = q, q.sum(axis=(1, 2))
        values.dr2[sites] = estimated_r2(hds.astype(np.float32), haploid)
        values.typed[sites] = (calls >= 0).any(axis=(1, 2))
        values.er2[sites] = np.nan
        if len(imputed.loo):
            values.er2[sites] = empirical_r2(imputed.loo[sites], calls, haploid)
        kept = values.typed[sites].any() or (values.dr2[sites] >= min_dr2).any()
        values.kept[record] = kept
        if stop - start > 1:
            values.two[sites] = 0
            if len(values.gq):
                values.gq[start] = _multiallelic_gq(hds, q, calls, haploid)
            continue
        gp = imputed.genotype[start] if len(imputed.genotype) else None  # [n, 3]
        if gp is not None and not _are_probabilities(gp[:, 2]):
            return _NOT_PROBABILITIES
        values.two[start] = _two_alts(q[0], gp, calls[0], bool(swapped[start]))
        if len(values.gq):
            values.gq[start] = _biallelic_gq(hds[0], gp, calls[0], q[0], haploid, bool(swapped[start]))
        if kept and not values.typed[start]:
            _count_certainty(q[0], values.two[start], haploid, certainty)
    return 0


def _are_probabilities(values: npt.NDArray[np.floating]) -> bool:
    # NaN fails both comparisons.
    return bool(((values >= -_TOLERANCE) & (values <= 1.0 + _TOLERANCE)).all())


def _thousandths(probability: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint(probability * np.float32(ONE)).clip(0, ONE).astype(np.int64))


def _two_alts(q: npt.NDArray[Any], gp: Floats | None, calls: Calls, swapped: bool) -> npt.NDArray[np.int64]:
    """Probability of two ALT alleles [n] in thousandths, of written dosages ``q`` [n, 2].

    ``gp`` [n, 3] and ``calls`` [n, 2] are in the panel's orientation. The probability is that of ``gp``, moved so that
    GP agrees with DS. Without ``gp``, or if an allele is known, the haplotypes are taken as independent.
    """
    ds = q.sum(axis=1)
    independent = (q[:, 0] * q[:, 1] + HALF) // ONE
    if gp is None:
        return np.asarray(independent)
    # P(two ALT) of the written orientation is the panel's P(no ALT) if the alleles are exchanged.
    two = _thousandths(gp[:, 2]) + (ds - ONE if swapped else 0)
    two = np.where((calls >= 0).any(axis=1), independent, two)
    return np.asarray(two.clip(np.maximum(ds - ONE, 0), ds // 2))


def _count_certainty(q: npt.NDArray[Any], two: npt.NDArray[Any], haploid: Flags, certainty: Indices) -> None:
    called, ds = q >= HALF, q.sum(axis=1)
    two = np.where(haploid, 0, two)
    same = np.where(called[:, 0], two, ONE - ds + two)
    np.add.at(certainty, np.where(called[:, 0] != called[:, 1], ds - 2 * two, same), 1)


def called_alleles(q: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The most probable allele [n, ploidy] of dosages [k, n, ploidy]. Of equal probabilities ALT is called."""
    probability = [*q, np.maximum(ONE - q.sum(axis=0), 0)]
    return np.asarray((np.argmax(probability, axis=0) + 1) % (len(q) + 1))


def _phred(wrong: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """GQ of the probability that a genotype is wrong: -10 log10, rounded, at most MAX_GQ."""
    quality = -10.0 * np.log10(np.clip(wrong, 1e-10, 1.0))
    return np.asarray(np.rint(quality).clip(0, MAX_GQ).astype(np.int64))


def _biallelic_gq(
    hds: Floats, gp: Floats | None, calls: Calls, q: npt.NDArray[Any], haploid: Flags, swapped: bool
) -> npt.NDArray[np.int64]:
    """GQ [n] of the written genotypes ``q`` [n, 2]. The other arguments are in the panel's orientation.

    GQ belongs to the genotype of GT, which is the rounded HDS. If the phase of a certain heterozygote is unknown, GT
    may differ from the most probable genotype of GP, and GQ is low.
    """
    hds = np.float32(1.0) - hds if swapped else hds
    a, b = hds[:, 0].astype(np.float64), hds[:, 1].astype(np.float64)
    independent = np.stack([(1.0 - a) * (1.0 - b), a * (1.0 - b) + b * (1.0 - a), a * b])
    called, known = q >= HALF, calls >= 0
    n_alt = called.sum(axis=1)
    # The sum of the other two is exact for small values; 1 minus the largest is not.
    gq = _phred(np.choose(n_alt, independent[[1, 0, 0]] + independent[[2, 2, 1]]))
    if gp is not None:  # GP does not contain the known allele of a half call
        gp = gp[:, ::-1] if swapped else gp
        gq = np.where(known.any(axis=1), gq, _phred(np.choose(n_alt, gp.T[[1, 0, 0]] + gp.T[[2, 2, 1]])))
    one = _phred(np.where(called[:, 0], np.float32(1.0) - hds[:, 0], hds[:, 0]).astype(np.float64))
    own = np.where(haploid, known[:, 0], known.all(axis=1))
    return np.where(own, NO_GQ, np.where(haploid, one, gq))


def _multiallelic_gq(
    hds: npt.NDArray[np.floating], q: npt.NDArray[Any], calls: Calls, haploid: Flags
) -> npt.NDArray[np.int64]:
    """GQ [n] of the written genotypes ``q`` [k, n, 2], of the dosages ``hds`` [k, n, 2]."""
    probability = np.concatenate([1.0 - hds.sum(axis=0, keepdims=True), hds]).clip(0.0, 1.0)
    call, sample = called_alleles(q), np.arange(q.shape[1])

    def chance(haplotype: int, of: int) -> npt.NDArray[np.floating]:
        """Probability [n] that ``haplotype`` has the allele called for haplotype ``of``."""
        return np.asarray(probability[call[:, of], sample, haplotype])

    other_order = np.where(call[:, 0] == call[:, 1], 0.0, chance(0, 1) * chance(1, 0))
    wrong = 1.0 - np.where(haploid, chance(0, 0), chance(0, 0) * chance(1, 1) + other_order)
    own = np.where(haploid, (calls[..., 0] >= 0).all(axis=0), (calls >= 0).all(axis=(0, 2)))
    return np.where(own, NO_GQ, _phred(wrong))
