"""Matches a target's sites to the panel's: exact, REF and ALT exchanged, on the other strand, or excluded.

The alleles of an A/T or C/G SNP are the same on both strands, so an exchange cannot be told from a strand flip. The
target's allele counts decide there. The site is excluded if they favour neither reading clearly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.genotypes import qc
from vcfbert.genotypes.build_fit import BuildFit
from vcfbert.genotypes.frequencies import compare_frequencies
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.qc import QcReport, RefusedTargetError, SiteNote
from vcfbert.genotypes.record_batch import Genotypes, haploid_samples
from vcfbert.genotypes.record_info import NO_ALT, PANEL_REF
from vcfbert.genotypes.regions import same_chrom
from vcfbert.genotypes.sex_chromosomes import between_pars

Index = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Text = npt.NDArray[np.object_]

# Relation of a target's alleles to the panel's, best first: bit 0 = exchanged, bit 1 = other strand.
_EXACT, _SWAP, _FLIP, _FLIP_SWAP = 0, 1, 2, 3
_NO_RELATION = 4
_STATUS = np.array([qc.MATCHED, qc.SWAPPED, qc.FLIPPED, qc.FLIPPED_SWAPPED], dtype=object)
_REASON = {
    qc.SWAPPED: "REF and ALT are exchanged",
    qc.FLIPPED: "alleles are on the other strand",
    qc.FLIPPED_SWAPPED: "alleles are on the other strand, and REF and ALT are exchanged",
    qc.ALLELE_MISMATCH: "the panel has other alleles at this position",
    qc.NOT_IN_PANEL: "the panel has no site at this position",
    qc.DUPLICATE: "another site of the input is matched to the same site of the panel",
    qc.AMBIGUOUS_EXCLUDED: "A/T or C/G SNP of unknown strand: frequencies are too close to 0.5, or calls too few",
}

# The strand of a palindromic SNP is decided where both frequencies are at least this far from 0.5 ...
_MIN_DISTANCE = 0.1
# ... and the log likelihood ratio of the two readings, given the target's allele counts, is at least ln(1000).
_MIN_LOG_RATIO = 6.9
# If at most this fraction of the other sites is flipped, the input is assumed to be on the panel's strand.
_CLEAN_STRAND_SHARE = 0.01
# Expected heterozygous calls of a female between the PARs of X. With fewer, their absence does not show a male.
_MIN_EXPECTED_HETEROZYGOUS = 10.0

_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}
_PALINDROMES = ("AT", "TA", "CG", "GC")


@dataclass(frozen=True)
class MatchedTarget:
    """The target's genotypes at m typed sites of the panel, ascending."""

    panel_digest: str
    samples: tuple[str, ...]
    panel_site: Index  # [m], site indices in the panel
    # [m, n_samples, 2] in the panel's orientation: -1 is missing, -2 stands in place of a haploid sample's second
    # allele.
    alleles: npt.NDArray[np.int8]
    phased: Flags  # [m, n_samples], False where the order of a call's alleles is unknown, as in ``Genotypes``
    swapped: Flags  # [m], True where the input has REF and ALT exchanged, and the output shall too
    id: Text  # [m], the input's IDs

    @property
    def haploid(self) -> Flags:
        """[n_samples]: True for haploid samples, such as males between the PARs of X."""
        return haploid_samples(self.alleles)

    @property
    def heterozygous(self) -> Flags:
        """[m, n_samples]: True where both alleles of a call are known and differ."""
        first, second = self.alleles[:, :, 0], self.alleles[:, :, 1]
        return np.asarray((first >= 0) & (second >= 0) & (first != second))

    @property
    def unphased(self) -> Flags:
        """[m, n_samples]: True at unphased heterozygous calls. A sample without any is phased."""
        return ~self.phased & self.heterozygous

    def of_samples(self, samples: Index) -> MatchedTarget:
        """The target with the samples of these indices, in this order."""
        names = tuple(self.samples[sample] for sample in samples)
        return replace(self, samples=names, alleles=self.alleles[:, samples], phased=self.phased[:, samples])

    def homozygous_coded(self) -> MatchedTarget:
        """The target with haploid samples coded as homozygous, for models of diploids; itself where none is haploid."""
        if not self.haploid.any():
            return self
        second = np.where(self.haploid, self.alleles[:, :, 0], self.alleles[:, :, 1])
        return replace(self, alleles=np.stack([self.alleles[:, :, 0], second], axis=2))


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a target site and a panel site at one position. Dims: pair."""

    target: Index
    panel: Index
    relation: Index  # _EXACT .. _FLIP_SWAP, or _NO_RELATION
    palindromic: Flags

    def take(self, index: Index | Flags) -> _Pairs:
        return _Pairs(self.target[index], self.panel[index], self.relation[index], self.palindromic[index])


def match_target(target: Genotypes, panel: Panel) -> tuple[MatchedTarget, QcReport]:
    """Matches a target to a panel; returns its genotypes at the panel's sites and the QC report.

    An exact match is preferred to an exchange of REF and ALT, and an exchange to a strand flip. Alleles are exchanged
    only if the REF alleles contradict each other, so an insertion is never taken for a deletion. A record without ALT
    is used at a SNP if its REF, or the complement of REF, is one of the panel's alleles. Raises RefusedTargetError,
    which has the report: no_overlap, wrong_build, no_usable_site.
    """
    target = _within_snps(target, panel)
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
    status[best.target] = qc.DUPLICATE
    best, orientation = best.take(kept), orientation[kept]
    status[best.target] = decided[used][kept]

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


def _within_snps(target: Genotypes, panel: Panel) -> Genotypes:
    """The target without those positions within reference blocks at which the panel has no SNP."""
    within = _equal(target.sites.ref, PANEL_REF)
    if not within.any():
        return target
    snp = (_length(panel.sites.ref) == 1) & (_length(panel.sites.alt) == 1) & ~panel.sites.symbolic
    kept = np.flatnonzero(~within | np.isin(target.sites.pos, panel.sites.pos[snp]))
    sites, alleles, phased = target.sites.take(kept), target.alleles[kept], target.phased[kept]
    return replace(target, sites=sites, alleles=alleles, phased=phased)


def report_without_sites(samples: tuple[str, ...], panel: Panel) -> QcReport:
    """The QC report of a target that has no record on the panel's chromosome."""
    no_text, nothing = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
    no_site = Sites(panel.sites.chrom, nothing.astype(np.int32), no_text, no_text, no_text, nothing.astype(bool))
    alleles, phased = np.empty((0, len(samples), 2), dtype=np.int8), np.empty((0, len(samples)), dtype=bool)
    matched = MatchedTarget(panel.digest, samples, nothing, alleles, phased, nothing.astype(bool), no_text)
    return _report(Genotypes(samples, no_site, alleles, phased), panel, matched, no_text, nothing, nothing)


def _position_pairs(target_pos: npt.NDArray[np.int32], panel_pos: npt.NDArray[np.int32]) -> tuple[Index, Index]:
    """Target and panel indices of all pairs at equal positions, ordered by target, then panel."""
    low = np.searchsorted(panel_pos, target_pos, side="left")
    count = np.searchsorted(panel_pos, target_pos, side="right") - low
    target = np.repeat(np.arange(len(target_pos)), count)
    within = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
    return target, low[target] + within


def _related(target: Sites, panel: Sites, target_index: Index, panel_index: Index) -> _Pairs:
    """The relation of the alleles of each pair of sites."""
    ref, alt = target.ref[target_index], target.alt[target_index]
    panel_ref, panel_alt = panel.ref[panel_index], panel.alt[panel_index]
    snp = (_length(panel_ref) == 1) & (_length(panel_alt) == 1) & ~panel.symbolic[panel_index]
    split = target.continues | np.append(target.continues[1:], False)
    # At a site of a multiallelic record 0 means "not this ALT" and not REF, so the two cannot be exchanged.
    whole = ~split[target_index]
    relation = np.full(len(ref), _EXACT)
    other = np.flatnonzero(~(_equal(ref, panel_ref) & _equal(alt, panel_alt)))  # few: most sites are read as they are
    relation[other] = _relation(ref[other], alt[other], panel_ref[other], panel_alt[other], snp[other], whole[other])
    palindromic = snp & np.isin(panel_ref + panel_alt, _PALINDROMES)
    relation[palindromic & ~whole & (relation != _EXACT)] = _NO_RELATION
    return _Pairs(target_index, panel_index, relation, palindromic & whole & ~_equal(ref, PANEL_REF))


def _relation(ref: Text, alt: Text, panel_ref: Text, panel_alt: Text, snp: Flags, whole: Flags) -> Index:
    """The relation of the target's alleles to the panel's. ``snp``: in the panel. ``whole``: see ``_related``."""
    no_alt = _equal(alt, NO_ALT)
    other_ref, other_alt = _complement(ref), _complement(alt)

    def reads(a: Text, b: Text, panel_a: Text, panel_b: Text) -> Flags:
        """Whether the target's alleles equal the panel's. Without ALT only ``a``, its REF, is compared, at SNPs."""
        return _equal(a, panel_a) & np.where(no_alt, snp, _equal(b, panel_b))

    relation = np.full(len(ref), _NO_RELATION)
    relation[snp & whole & reads(other_ref, other_alt, panel_alt, panel_ref)] = _FLIP_SWAP
    relation[snp & reads(other_ref, other_alt, panel_ref, panel_alt)] = _FLIP
    relation[whole & ~_one_reference(ref, panel_ref) & reads(ref, alt, panel_alt, panel_ref)] = _SWAP
    relation[reads(ref, alt, panel_ref, panel_alt) | (_equal(ref, PANEL_REF) & snp)] = _EXACT
    return relation


def _one_reference(a: Text, b: Text) -> Flags:
    """Whether two REF alleles of one position can be of the same sequence: one begins with the other.

    Then the records CA>C and C>CA may be a deletion and an insertion, and an exchange cannot be told from them. SNPs
    with exchanged alleles have different REF bases.
    """
    pairs = zip(a, b, strict=True)
    return np.fromiter((x.startswith(y) or y.startswith(x) for x, y in pairs), dtype=bool, count=len(a))


def _best(pairs: _Pairs) -> _Pairs:
    """The best pair of every target site; of equally good pairs the first in the panel."""
    pairs = pairs.take(pairs.relation != _NO_RELATION)
    order = np.lexsort((pairs.panel, pairs.relation, pairs.target))
    pairs = pairs.take(order)
    return pairs.take(np.append(True, np.diff(pairs.target) > 0)[: len(pairs.target)])


def _one_each(pairs: _Pairs) -> Index:
    """Indices of the best pair of each panel site, ascending in the panel."""
    order = np.lexsort((pairs.target, pairs.relation, pairs.panel))
    first = np.append(True, np.diff(pairs.panel[order]) > 0)[: len(order)]
    return np.asarray(order[first])


def _orient(pairs: _Pairs, target: Genotypes, panel: Panel) -> tuple[Index, Text]:
    """Orientation (as relation) and status of each pair. Allele frequency decides palindromic SNPs."""
    orientation, status = pairs.relation.copy(), _STATUS[pairs.relation]
    flips = pairs.relation[~pairs.palindromic] >= _FLIP
    clean_strand = np.sum(flips) <= _CLEAN_STRAND_SHARE * len(flips)
    index = np.flatnonzero(pairs.palindromic)
    verdict = _likelier(target.alleles[pairs.target[index]], panel.af[pairs.panel[index]])
    read_swapped = pairs.relation[index] == _SWAP
    # Equal alleles are used unless the counts contradict them; exchanged alleles only if the counts support them.
    trusted = ~read_swapped & ((verdict > 0) | ((verdict == 0) & clean_strand))
    orientation[index] = np.where(
        read_swapped, np.where(verdict > 0, _FLIP, _SWAP), np.where(verdict < 0, _FLIP_SWAP, _EXACT)
    )
    status[index] = np.where(verdict == 0, qc.AMBIGUOUS_EXCLUDED, qc.AMBIGUOUS_RESOLVED)
    status[index[trusted]] = qc.MATCHED
    return orientation, status


def _likelier(alleles: npt.NDArray[np.int8], panel_af: npt.NDArray[np.float64]) -> Index:
    """For each site 1 if the target's ALT is the panel's ALT, -1 if it is the panel's REF, and 0 if undecided.

    Compares the likelihoods of the allele counts in ``alleles`` [n, n_samples, 2] at the panel's ALT frequency
    ``panel_af`` [n].
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
    missing = (matched.alleles == MISSING).any(axis=2).sum(axis=0) / m  # [n_samples], half calls included
    return QcReport(
        n_samples=len(target.samples),
        n_haploid=int(matched.haploid.sum()),
        n_homozygous_coded=_n_homozygous_coded(matched, panel),
        n_target_sites=len(sites),
        n_panel_sites=panel.n_sites,
        panel_filled=panel.filled,
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
        fit=_fit(sites, in_span, status, pos),
        n_half_calls=int((((matched.alleles >= 0).sum(axis=2) == 1) & ~matched.phased & ~matched.haploid).sum()),
    )


def _fit(sites: Sites, in_span: Flags, status: Text, panel_pos: npt.NDArray[np.int32]) -> BuildFit:
    counted = in_span & ~_equal(sites.alt, NO_ALT)
    shared = counted & (status != qc.NOT_IN_PANEL)
    n_positions = 1 + int(np.count_nonzero(np.diff(panel_pos)))  # np.unique would import numpy.ma
    density = n_positions / (int(panel_pos[-1]) - int(panel_pos[0]) + 1)
    n_sites = int(counted.sum())
    return BuildFit(
        n_sites=n_sites,
        n_shared=int(shared.sum()),
        n_agreeing=int((shared & (status != qc.ALLELE_MISMATCH)).sum()),
        by_chance=n_sites * density,
    )


def _n_homozygous_coded(matched: MatchedTarget, panel: Panel) -> int:
    """Number of samples that are diploid and never heterozygous between the PARs of X: most probably males."""
    if not between_pars(panel.region):
        return 0
    af = panel.af[matched.panel_site]
    if np.sum(2.0 * af * (1.0 - af)) < _MIN_EXPECTED_HETEROZYGOUS:
        return 0
    called = (matched.alleles[:, :, 0] >= 0).any(axis=0)
    return int((~matched.heterozygous.any(axis=0) & called & ~matched.haploid).sum())


def _reason(status: str, reading: int) -> str:
    if status != qc.AMBIGUOUS_RESOLVED:
        return _REASON[status]
    return f"A/T or C/G SNP, decided by allele frequency: {_REASON[_STATUS[reading]]}"


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
            hint="give a target of the panel's chromosome, region and genome build",
        )
    if report.fit.has_other_alleles or n_mismatched == n_shared:
        raise RefusedTargetError(
            "wrong_build",
            f"alleles differ from the panel's at {n_mismatched} of {n_shared} shared positions: the target is probably "
            "of another genome build than the panel",
            report=report,
            where=where,
            hint="lift it over to the panel's build",
        )
    if report.n_used == 0:
        raise RefusedTargetError(
            "no_usable_site",
            f"every site shared with the panel is excluded: {_REASON[qc.AMBIGUOUS_EXCLUDED]}",
            report=report,
            where=where,
            hint="give a target with more sites or more samples",
        )


def check_positions(report: QcReport) -> None:
    """Raises RefusedTargetError('wrong_build') where the target's positions are those of another build.

    ``report``: of all panels, because a target may have very few sites in one of them.
    """
    fit = report.fit
    if fit.is_chance:
        raise RefusedTargetError(
            "wrong_build",
            f"only {fit.n_agreeing} of {fit.n_sites} sites are at positions of panel sites and have their alleles, as "
            "few as chance gives: the target is probably of another genome build than the panel",
            report=report,
            where="target",
            hint="lift it over to the panel's build",
        )


def _span(sites: Sites) -> str:
    return f"{sites.chrom}:{sites.pos[0]}-{sites.pos[-1]}"


def _equal(a: Text, b: Text | str) -> Flags:
    return np.asarray(a == b, dtype=bool)


def _length(texts: Text) -> Index:
    return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


def _complement(alleles: Text) -> Text:
    """The complement of each single base; longer alleles are unchanged."""
    return np.array([_COMPLEMENT.get(allele, allele) for allele in alleles], dtype=object)
