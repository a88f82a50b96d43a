"""Matching a target's sites to the panel's: exact, REF/ALT exchanged, on the other strand, or left out.

Alleles of an A/T or C/G SNP read the same on both strands, so text cannot tell an exchange from a flip there:
the target's allele counts decide, if they favour one reading clearly, and the site is left out if not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.genotypes import qc
from vcfbert.genotypes.frequencies import compare_frequencies
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.qc import QcReport, RefusedTargetError, SiteNote
from vcfbert.genotypes.regions import same_chrom
from vcfbert.genotypes.sex_chromosomes import between_pars
from vcfbert.genotypes.vcf_reader import NO_ALT, Genotypes, haploid_samples

Index = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Text = npt.NDArray[np.object_]

# How a target's alleles read beside the panel's, best first: bit 0 = exchanged, bit 1 = other strand.
_EXACT, _SWAP, _FLIP, _FLIP_SWAP = 0, 1, 2, 3
_NO_RELATION = 4
_STATUS = np.array([qc.MATCHED, qc.SWAPPED, qc.FLIPPED, qc.FLIPPED_SWAPPED], dtype=object)
_REASON = {
    qc.SWAPPED: "REF and ALT are exchanged",
    qc.FLIPPED: "alleles are of the other strand",
    qc.FLIPPED_SWAPPED: "alleles are of the other strand, REF and ALT exchanged",
    qc.ALLELE_MISMATCH: "the panel has other alleles at this position",
    qc.NOT_IN_PANEL: "the panel has no site at this position",
    qc.DUPLICATE: "another site of the input was matched to the same site of the panel",
    qc.AMBIGUOUS_EXCLUDED: "A/T or C/G SNP of undecided strand: frequencies are too close to 0.5, or calls too few",
}

# A palindromic SNP is decided where both frequencies are at least this far from 0.5 ...
_MIN_DISTANCE = 0.1
# ... and one reading is this much likelier (natural log of 1,000) given the target's allele counts.
_MIN_LOG_RATIO = 6.9
# Where no more of the other sites than this are flipped, the input's strand is taken to be the panel's.
_CLEAN_STRAND_SHARE = 0.01
# More mismatches than this among the sites of shared positions, of which there are some, mean another build.
_WRONG_BUILD_SHARE = 1 / 3
_WRONG_BUILD_SITES = 10

# Between X's PARs, over all sites: less, and having no heterozygous call says nothing of a sample's sex.
_MIN_EXPECTED_HETEROZYGOUS = 10.0

_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
_PALINDROMES = ("AT", "TA", "CG", "GC")


@dataclass(frozen=True)
class MatchedTarget:
    """The target at the panel's sites. Dims: m typed sites, ascending in the panel.

    ``panel_site`` int64 [m]; ``alleles`` int8 [m, n_samples, 2] in the panel's orientation, -1 missing, and -2 in
    place of the second allele of a haploid sample; ``phased`` bool [m, n_samples]: False where the order of a call's
    alleles says nothing, as in ``Genotypes``; ``swapped`` bool [m]: the input has REF and ALT exchanged; ``id`` object
    [m]: the input's. ``panel_digest`` names the panel.
    """

    panel_digest: str
    samples: tuple[str, ...]
    panel_site: Index
    alleles: npt.NDArray[np.int8]
    phased: Flags
    swapped: Flags
    id: Text

    @property
    def haploid(self) -> Flags:
        """[n_samples]: samples of one haplotype, such as males at chromosome X outside of its PAR."""
        return haploid_samples(self.alleles)

    @property
    def unphased(self) -> Flags:
        """[m, n_samples]: heterozygous calls whose order says nothing. A sample without any is phased."""
        first, second = self.alleles[:, :, 0], self.alleles[:, :, 1]
        return np.asarray(~self.phased & (first >= 0) & (second >= 0) & (first != second))

    def of_samples(self, samples: Index) -> MatchedTarget:
        """The samples of these numbers, in this order."""
        names = tuple(self.samples[sample] for sample in samples)
        return replace(self, samples=names, alleles=self.alleles[:, samples], phased=self.phased[:, samples])

    def homozygous_coded(self) -> MatchedTarget:
        """Haploid samples as homozygous ones, for models that know nothing else; itself where there are none."""
        if not self.haploid.any():
            return self
        second = np.where(self.haploid, self.alleles[:, :, 0], self.alleles[:, :, 1])
        return replace(self, alleles=np.stack([self.alleles[:, :, 0], second], axis=2))


@dataclass(frozen=True)
class _Pairs:
    """Target sites and panel sites at one position, side by side. Dims: pair."""

    target: Index
    panel: Index
    relation: Index  # _EXACT .. _FLIP_SWAP, or _NO_RELATION
    palindromic: Flags

    def take(self, index: Index | Flags) -> _Pairs:
        return _Pairs(self.target[index], self.panel[index], self.relation[index], self.palindromic[index])


def match_target(target: Genotypes, panel: Panel) -> tuple[MatchedTarget, QcReport]:
    """The target's genotypes at the panel's sites, and a report of every site repaired or left out.

    An exact match is preferred to an exchange, an exchange to a flip. A record without ALT is used where its REF
    tells which of the panel's alleles its samples carry. Raises RefusedTargetError, which has the report: no_overlap,
    wrong_build, no_usable_site.
    """
    status = np.full(len(target.sites), qc.NOT_IN_PANEL, dtype=object)
    there = panel.sites.pos if same_chrom(target.sites.chrom, panel.sites.chrom) else panel.sites.pos[:0]
    pairs = _position_pairs(target.sites.pos, there)
    status[pairs[0]] = qc.ALLELE_MISMATCH
    best = _best(_related(target.sites, panel.sites, *pairs))

    partner = np.full(len(target.sites), -1)
    partner[pairs[0]] = pairs[1]
    partner[best.target] = best.panel
    orientation, decided = _orient(best, target, panel)
    status[best.target] = decided
    used = np.isin(decided, qc.USED)
    best, orientation = best.take(used), orientation[used]
    kept = _one_each(best)
    status[np.setdiff1d(best.target, best.target[kept])] = qc.DUPLICATE
    best, orientation = best.take(kept), orientation[kept]

    swapped = (orientation & _SWAP) > 0
    alleles = target.alleles[best.target]
    alleles[swapped] = np.where(alleles[swapped] < 0, alleles[swapped], 1 - alleles[swapped])
    matched = MatchedTarget(
        panel_digest=panel.digest,
        samples=target.samples,
        panel_site=best.panel,
        alleles=alleles,
        phased=target.phased[best.target],
        swapped=swapped,
        id=target.sites.id[best.target],
    )
    reading = np.full(len(target.sites), _EXACT)
    reading[best.target] = orientation
    report = _report(target, panel, matched, status, partner, reading)
    _check(report, target, panel)
    return matched, report


def report_without_sites(samples: tuple[str, ...], panel: Panel) -> QcReport:
    """Of a target that has nothing of the panel's chromosome."""
    no_text, nothing = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
    no_site = Sites(panel.sites.chrom, nothing.astype(np.int32), no_text, no_text, no_text, nothing.astype(bool))
    alleles, phased = np.empty((0, len(samples), 2), dtype=np.int8), np.empty((0, len(samples)), dtype=bool)
    matched = MatchedTarget(panel.digest, samples, nothing, alleles, phased, nothing.astype(bool), no_text)
    return _report(Genotypes(samples, no_site, alleles, phased), panel, matched, no_text, nothing, nothing)


def _position_pairs(target_pos: npt.NDArray[np.int32], panel_pos: npt.NDArray[np.int32]) -> tuple[Index, Index]:
    """Target and panel indices of every pair at one position, ordered by target, then panel."""
    low = np.searchsorted(panel_pos, target_pos, side="left")
    count = np.searchsorted(panel_pos, target_pos, side="right") - low
    target = np.repeat(np.arange(len(target_pos)), count)
    within = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
    return target, low[target] + within


def _related(target: Sites, panel: Sites, target_index: Index, panel_index: Index) -> _Pairs:
    """How the alleles of each pair of sites read beside each other."""
    ref, alt = target.ref[target_index], target.alt[target_index]
    panel_ref, panel_alt = panel.ref[panel_index], panel.alt[panel_index]
    no_alt = _equal(alt, NO_ALT)
    snp = (_length(panel_ref) == 1) & (_length(panel_alt) == 1)
    split = target.continues | np.append(target.continues[1:], False)
    # In a multiallelic record 0 means "not this ALT", not REF, so exchanging the two would be wrong.
    whole = ~split[target_index]
    other_ref, other_alt = _complement(ref), _complement(alt)

    def reads(a: Text, b: Text, beside_a: Text, beside_b: Text) -> Flags:
        return _equal(a, beside_a) & np.where(no_alt, snp, _equal(b, beside_b))

    relation = np.full(len(ref), _NO_RELATION)
    relation[snp & whole & reads(other_ref, other_alt, panel_alt, panel_ref)] = _FLIP_SWAP
    relation[snp & reads(other_ref, other_alt, panel_ref, panel_alt)] = _FLIP
    relation[whole & reads(ref, alt, panel_alt, panel_ref)] = _SWAP
    relation[reads(ref, alt, panel_ref, panel_alt)] = _EXACT
    palindromic = snp & np.isin(panel_ref + panel_alt, _PALINDROMES)
    relation[palindromic & ~whole & (relation != _EXACT)] = _NO_RELATION
    return _Pairs(target_index, panel_index, relation, palindromic & whole)


def _best(pairs: _Pairs) -> _Pairs:
    """The best pair of every target site that has one; the first in the panel where several are equally good."""
    pairs = pairs.take(pairs.relation != _NO_RELATION)
    order = np.lexsort((pairs.panel, pairs.relation, pairs.target))
    pairs = pairs.take(order)
    return pairs.take(np.append(True, np.diff(pairs.target) > 0)[: len(pairs.target)])


def _one_each(pairs: _Pairs) -> Index:
    """Indices of pairs, ascending in the panel: for each of the panel's sites the target site that reads best."""
    order = np.lexsort((pairs.target, pairs.relation, pairs.panel))
    first = np.append(True, np.diff(pairs.panel[order]) > 0)[: len(order)]
    return np.asarray(order[first])


def _orient(pairs: _Pairs, target: Genotypes, panel: Panel) -> tuple[Index, Text]:
    """Orientation (as relation) and status of each pair, palindromic SNPs decided by frequency."""
    orientation, status = pairs.relation.copy(), _STATUS[pairs.relation]
    flips = pairs.relation[~pairs.palindromic] >= _FLIP
    clean_strand = np.sum(flips) <= _CLEAN_STRAND_SHARE * len(flips)
    index = np.flatnonzero(pairs.palindromic)
    verdict = _likelier(target.alleles[pairs.target[index]], panel.af[pairs.panel[index]])
    read_swapped = pairs.relation[index] == _SWAP
    # Text that agrees is kept unless counts speak against it; text that does not needs counts that speak for it.
    trusted = ~read_swapped & ((verdict > 0) | ((verdict == 0) & clean_strand))
    orientation[index] = np.where(
        read_swapped, np.where(verdict > 0, _FLIP, _SWAP), np.where(verdict < 0, _FLIP_SWAP, _EXACT)
    )
    status[index] = np.where(verdict == 0, qc.AMBIGUOUS_EXCLUDED, qc.AMBIGUOUS_RESOLVED)
    status[index[trusted]] = qc.MATCHED
    return orientation, status


def _likelier(alleles: npt.NDArray[np.int8], panel_af: npt.NDArray[np.float64]) -> Index:
    """For each site 1: the target's ALT is the panel's; -1: it is the panel's REF; 0: undecided.

    By the likelihood of the allele counts in ``alleles`` [n, n_samples, 2] at the panel's frequency ``panel_af`` [n].
    """
    n_alt = (alleles == 1).sum(axis=(1, 2))
    n_ref = (alleles == 0).sum(axis=(1, 2))
    af = n_alt / np.maximum(n_alt + n_ref, 1)
    p = np.clip(panel_af, 1e-3, 1.0 - 1e-3)
    ratio = (n_alt - n_ref) * np.log(p / (1.0 - p))
    clear = (
        (np.abs(ratio) >= _MIN_LOG_RATIO)
        & (np.abs(panel_af - 0.5) >= _MIN_DISTANCE)
        & (np.abs(af - 0.5) >= _MIN_DISTANCE)
    )
    return np.where(clear, np.sign(ratio), 0).astype(np.int64)


def _report(
    target: Genotypes, panel: Panel, matched: MatchedTarget, status: Text, partner: Index, reading: Index
) -> QcReport:
    sites, pos = target.sites, panel.sites.pos
    in_span = (sites.pos >= pos[0]) & (sites.pos <= pos[-1])
    used = np.isin(status, qc.USED)
    notes = []
    for i in np.flatnonzero(status != qc.MATCHED).tolist():
        there = partner[i]
        notes.append(
            SiteNote(
                chrom=sites.chrom,
                pos=int(sites.pos[i]),
                id=sites.id[i],
                ref=sites.ref[i],
                alt=sites.alt[i],
                panel_ref="." if there < 0 else panel.sites.ref[there],
                panel_alt="." if there < 0 else panel.sites.alt[there],
                status=status[i],
                reason=_reason(status[i], int(reading[i])),
            )
        )
    m = max(len(matched.panel_site), 1)
    missing = (matched.alleles == MISSING).any(axis=2).sum(axis=0) / m  # [n_samples], half calls among them
    return QcReport(
        n_samples=len(target.samples),
        n_haploid=int(matched.haploid.sum()),
        n_homozygous_coded=_n_homozygous_coded(matched, panel),
        n_target_sites=len(sites),
        n_panel_sites=panel.n_sites,
        n_used=len(matched.panel_site),
        counts={name: int((status == name).sum()) for name in (*qc.USED, *qc.EXCLUDED)},
        missing=tuple(missing.tolist()),
        n_unphased=int(matched.unphased.any(axis=1).sum()),
        n_in_span=int(in_span.sum()),
        n_used_in_span=int(used[in_span].sum()),
        bases=int(pos[-1]) - int(pos[0]) + 1,
        density=qc.typed_density(panel.region.chrom, pos[matched.panel_site], pos),
        frequencies=compare_frequencies(matched.alleles, matched.panel_site, panel),
        notes=tuple(notes),
    )


def _n_homozygous_coded(matched: MatchedTarget, panel: Panel) -> int:
    """Samples that are diploid between X's PARs and never heterozygous, where a female would be, but for chance."""
    if not between_pars(panel.region):
        return 0
    af = panel.af[matched.panel_site]
    if np.sum(2.0 * af * (1.0 - af)) < _MIN_EXPECTED_HETEROZYGOUS:
        return 0
    first, second = matched.alleles[:, :, 0], matched.alleles[:, :, 1]
    heterozygous = ((first != second) & (first >= 0) & (second >= 0)).any(axis=0)
    called = (first >= 0).any(axis=0)
    return int((~heterozygous & called & ~matched.haploid).sum())


def _reason(status: str, reading: int) -> str:
    if status != qc.AMBIGUOUS_RESOLVED:
        return _REASON[status]
    return f"A/T or C/G SNP, by allele frequency: {_REASON[_STATUS[reading]]}"


def _check(report: QcReport, target: Genotypes, panel: Panel) -> None:
    """Raises RefusedTargetError where the target cannot be imputed."""
    n_shared, n_mismatched = report.n_shared_positions, report.counts[qc.ALLELE_MISMATCH]
    where = f"target, chromosome {target.sites.chrom}"
    if n_shared == 0:
        raise RefusedTargetError(
            "no_overlap",
            f"no site of the target ({_span(target.sites)}) is in the panel ({_span(panel.sites)})",
            report=report,
            where=where,
            hint="give the chromosome, region and genome build of the panel",
        )
    many = n_shared >= _WRONG_BUILD_SITES and n_mismatched > _WRONG_BUILD_SHARE * n_shared
    if many or n_mismatched == n_shared:
        raise RefusedTargetError(
            "wrong_build",
            f"alleles differ from the panel's at {n_mismatched} of {n_shared} shared positions: the target is probably "
            "of another genome build than the panel",
            report=report,
            where=where,
            hint="bring it to the panel's build first, with CrossMap or bcftools +liftover",
        )
    if report.n_used == 0:
        raise RefusedTargetError(
            "no_usable_site",
            f"every site shared with the panel is left out: {_REASON[qc.AMBIGUOUS_EXCLUDED]}",
            report=report,
            where=where,
            hint="give a target with other sites too, or with more samples",
        )


def _span(sites: Sites) -> str:
    return f"{sites.chrom}:{sites.pos[0]}-{sites.pos[-1]}"


def _equal(a: Text, b: Text | str) -> Flags:
    return np.asarray(a == b, dtype=bool)


def _length(texts: Text) -> Index:
    return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


def _complement(alleles: Text) -> Text:
    """The single bases on the other strand; anything longer as it is."""
    return np.array([_COMPLEMENT.get(allele, allele) for allele in alleles], dtype=object)
