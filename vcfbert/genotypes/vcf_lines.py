"""Formats imputed blocks as lines of VCF text, one line per record.

All fields but GQ are derived from haplotype dosages (HDS) in whole thousandths, so that the fields of a record agree:
DS is the sum of the two HDS, GT is the rounded HDS, GP sums to 1, and the expectation of GP is DS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.errors import VcfbertError
from vcfbert.genotypes.imputed import ImputedBlock, empirical_r2, estimated_r2
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_texts import (
    DEFAULT_FIELDS,
    HALF,
    NO_GQ,
    ONE,
    SampleTexts,
    biallelic_gq,
    certainty_counts,
    independent_g2,
    multiallelic_gq,
)
from vcfbert.kernels import Calls, Floats, Numbers, jitted

Flags = npt.NDArray[np.bool_]

# Sites x samples formatted at a time, so that their numbers and texts stay in the processor's cache.
_CELLS_AT_ONCE: Final = 1 << 16


class Line(NamedTuple):
    """A record: its text with a newline, and its 0-based half-open interval on the reference."""

    text: bytes
    start: int
    stop: int


def joined_sites(panel: Panel, swapped: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[n_sites]: True where a site is written into the same multiallelic record as the site before it.

    If REF and ALT are exchanged at a site of a record, the record is written as biallelic records, one per ALT.
    """
    sites = panel.sites
    joined = sites.continues.copy()
    joined[:1] = False
    joined[1:] &= (sites.pos[1:] == sites.pos[:-1]) & (sites.ref[1:] == sites.ref[:-1])
    record = np.cumsum(~joined) - 1
    return joined & ~np.isin(record, record[swapped])


class LineFormatter:
    """Formats the blocks of one file. ``ids``, ``swapped`` and ``joined`` have the length of the panel's sites.

    ``ids`` is None or '.' where the panel's ID is written. ``swapped`` is True where REF and ALT are written exchanged.
    ``joined``: see ``joined_sites``. ``haploid`` [n_samples] is True for haploid samples. ``fields``: the fields of
    FORMAT. A record without a typed sample is excluded if the DR2 of each of its ALT alleles is below ``min_dr2``.
    ``summary`` counts every site.
    """

    def __init__(
        self,
        panel: Panel,
        *,
        ids: npt.NDArray[np.object_] | None,
        swapped: Flags,
        joined: Flags,
        haploid: Flags | None = None,
        fields: Iterable[str] = DEFAULT_FIELDS,
        min_dr2: float = 0.0,
        summary: Summary | None = None,
    ) -> None:
        self._sites = panel.sites
        self._ids = ids
        self._swapped = swapped
        self._joined = joined
        self._haploid = np.zeros(0, dtype=np.int64) if haploid is None else np.flatnonzero(haploid)
        self._haploid_flags = haploid
        self._texts = SampleTexts(fields)
        self._format = ":".join(self._texts.fields)
        self._with_quality = "GQ" in self._texts.fields
        self._min_dr2 = min_dr2
        self._summary = summary

    def lines(self, block: ImputedBlock) -> Iterator[Line]:
        """The block's records in order. No multiallelic record may cross its ends (see ``whole_records``)."""
        n_sites, n_samples, _ = block.haplotype_dosage.shape
        joined = self._joined[block.start : block.stop].copy()
        joined[:1] = False
        starts = np.append(np.flatnonzero(~joined), n_sites).tolist()
        several = joined | np.append(joined[1:], False)
        step = max(_CELLS_AT_ONCE // max(n_samples, 1), 1)
        biallelic: list[bytes] = []
        first = 0
        for start, stop in pairwise(starts):
            if start >= first + len(biallelic):
                first, last = start, min(start + step, n_sites)
                biallelic = self._biallelic(block.rows(first, last), ~several[first:last])
            site = block.start + start
            text = self._multiallelic(block.rows(start, stop)) if several[start] else biallelic[start - first]
            if text:
                position = int(self._sites.pos[site]) - 1
                yield Line(text, position, position + len(self._alleles(site)[0]))

    def _biallelic(self, block: ImputedBlock, single: Flags) -> list[bytes]:
        """The texts of the block's sites. ``single`` [l] is True at biallelic records; other sites have no valid text.

        The text of an excluded record is empty.
        """
        hds = _with_calls(block)
        _check_probability(hds)
        dr2 = estimated_r2(hds, self._haploid_flags)
        typed = block.typed
        kept = typed | (dr2 >= self._min_dr2)
        if self._summary is not None:
            self._summary.add_sites(block.start + np.flatnonzero(single), dr2[single], typed[single], kept[single])
        if kept.all():  # a slice copies nothing; the few texts of multiallelic sites are not used
            return self._records(block, hds, dr2, typed, single, slice(None))
        row = np.flatnonzero(kept & single)
        texts = [b""] * len(kept)
        for place, text in zip(row.tolist(), self._records(block, hds, dr2, typed, single, row), strict=True):
            texts[place] = text
        return texts

    def _records(
        self,
        block: ImputedBlock,
        hds: Floats,
        dr2: npt.NDArray[np.float64],
        typed: Flags,
        single: Flags,
        row: npt.NDArray[np.int64] | slice,
    ) -> list[bytes]:
        """Formats rows of the block as biallelic records. ``hds`` [l, n, 2] and the flags [l] have all its rows."""
        site, typed = np.arange(block.start, block.stop)[row], typed[row]
        swapped, calls, hds = self._swapped[site], block.calls[row], hds[row]
        gp = None if block.genotype_probability is None else block.genotype_probability[row]
        q = _thousandths(hds)  # [l, n, 2]
        q[swapped] = ONE - q[swapped]
        q[:, self._haploid, 1] = 0
        g2 = None if gp is None else _constrained_g2(gp, calls, q, swapped)
        if self._summary is not None:
            counted = single[row] & ~typed
            self._summary.add_genotypes(certainty_counts(q, g2, self._is_haploid(q.shape[1]), counted))
        gq = self._quality(hds, gp, calls, q, swapped) if self._with_quality else None
        samples = self._texts.rows(q, g2, gq, self._is_haploid(q.shape[1]))
        er2 = self._empirical_r2(block, row, calls, typed)
        columns = self._site_columns(site, typed, self._frequencies(q), dr2[row], er2)
        return [b"%b%b\n" % both for both in zip(columns, samples, strict=True)]

    def _quality(self, hds: Floats, gp: Floats | None, calls: Calls, q: Numbers, swapped: Flags) -> Numbers:
        """GQ [l, n] of the written genotypes ``q`` [l, n, 2].

        It is NO_GQ where all alleles are the input's, because the input's own quality is not known here.
        """
        called = q >= HALF
        hds = np.where(swapped[:, None, None], 1.0 - hds, hds)
        if gp is not None:
            gp = np.where(swapped[:, None, None], gp[..., ::-1], gp)
        gq = biallelic_gq(hds, gp, called)
        partly = np.flatnonzero((calls >= 0).any(axis=(1, 2)))
        if gp is not None and len(partly):  # GP does not contain the known allele of a half call
            known = (calls[partly] >= 0).any(axis=-1)
            gq[partly] = np.where(known, biallelic_gq(hds[partly], None, called[partly]), gq[partly])
        gq[:, self._haploid] = biallelic_gq(hds[:, self._haploid, :1], None, called[:, self._haploid, :1])
        gq[self._own(calls)] = NO_GQ
        return gq

    def _own(self, calls: Calls) -> Flags:
        """[l, n]: True where the input has all alleles of the genotype."""
        own = np.asarray((calls >= 0).all(axis=-1))
        own[:, self._haploid] = calls[:, self._haploid, 0] >= 0
        return own

    def _is_haploid(self, n_samples: int) -> Flags:
        return np.zeros(n_samples, dtype=bool) if self._haploid_flags is None else self._haploid_flags

    def _frequencies(self, q: Numbers) -> npt.NDArray[np.float64]:
        """AF [l] of dosages [l, n, 2]; the second haplotype of haploid samples must be 0."""
        return np.asarray(q.sum(axis=(1, 2)) / max(ONE * (2 * q.shape[1] - len(self._haploid)), 1))

    def _empirical_r2(
        self,
        block: ImputedBlock,
        row: npt.NDArray[np.int64] | slice,
        calls: Calls,
        typed: Flags,
    ) -> npt.NDArray[np.float64]:
        """ER2 [rows] of the block; NaN at sites without it."""
        er2 = np.full(len(calls), np.nan)
        if block.loo_dosage is not None and typed.any():
            er2[typed] = empirical_r2(block.loo_dosage[row][typed], calls[typed], self._haploid_flags)
        return er2

    def _site_columns(
        self,
        site: npt.NDArray[np.int64],
        typed: Flags,
        af: npt.NDArray[np.float64],
        dr2: npt.NDArray[np.float64],
        er2: npt.NDArray[np.float64],
    ) -> list[bytes]:
        """The columns CHROM to FORMAT of each site."""
        sites, last, columns = self._sites, f"\t{self._format}", []
        for number, pos, known, frequency, r2, own_r2 in zip(
            site.tolist(), sites.pos[site].tolist(), typed.tolist(), af.tolist(), dr2.tolist(), er2.tolist(),
            strict=True,
        ):  # fmt: skip
            maf = min(frequency, 1.0 - frequency)
            ref, alt = self._alleles(number)
            quality = _er2([own_r2]) if known else ""
            columns.append(
                f"{sites.chrom}\t{pos}\t{self._id(number)}\t{ref}\t{alt}\t.\tPASS\tAF={frequency:.5g};MAF={maf:.5g};"
                f"DR2={r2:.4g}{quality};{_origin(known)}{last}".encode()
            )
        return columns

    def _fixed_columns(self, site: int, ref: str, alt: str, id_: str, info: str) -> bytes:
        sites = self._sites
        return f"{sites.chrom}\t{sites.pos[site]}\t{id_}\t{ref}\t{alt}\t.\tPASS\t{info}\t{self._format}".encode()

    def _alleles(self, site: int) -> tuple[str, str]:
        ref, alt = self._sites.ref[site], self._sites.alt[site]
        return (alt, ref) if self._swapped[site] else (ref, alt)

    def _id(self, site: int) -> str:
        given = None if self._ids is None else self._ids[site]
        return str(self._sites.id[site] if given in (None, "", ".") else given)

    def _multiallelic(self, block: ImputedBlock) -> bytes:
        """All sites of the block as one record with one ALT allele per site; empty if the record is excluded.

        Dosages of a haplotype that sum to more than 1 are rescaled to 1. The haplotypes are taken as independent,
        because genotype probabilities by site do not contain the joint probability of different ALT alleles.
        """
        hds = _with_calls(block).astype(np.float64)  # [k, n, 2], k ALT alleles
        hds /= np.maximum(hds.sum(axis=0), 1.0)
        _check_probability(hds)
        dr2 = estimated_r2(hds.astype(np.float32), self._haploid_flags)
        typed = block.typed
        kept = bool(typed.any() or (dr2 >= self._min_dr2).any())
        if self._summary is not None:
            site = np.arange(block.start, block.stop)
            self._summary.add_sites(site, dr2, typed | typed.any(), np.full(len(site), kept))
        if not kept:
            return b""
        q = _thousandths(hds)
        text = self._multiallelic_texts(block, hds, q, slice(None))
        for sample in self._haploid.tolist():
            text[sample] = self._multiallelic_texts(block, hds[..., :1], q[..., :1], slice(sample, sample + 1))[0]
        q[:, self._haploid, 1] = 0
        er2 = self._empirical_r2(block, slice(None), block.calls, typed)
        return b"".join([self._multiallelic_columns(block, self._frequencies(q), dr2, er2), *text, b"\n"])

    def _multiallelic_texts(
        self, block: ImputedBlock, hds: npt.NDArray[np.float64], q: Numbers, samples: slice
    ) -> list[bytes]:
        """Texts of the chosen samples. Dosages ``hds`` and ``q`` [k, n, ploidy] have all samples."""
        gq = None
        if self._with_quality:
            own = (block.calls[:, samples, : q.shape[2]] >= 0).all(axis=(0, 2))
            gq = np.where(own, NO_GQ, multiallelic_gq(hds[:, samples], q[:, samples]))
        return self._texts.multiallelic(q[:, samples], gq)

    def _multiallelic_columns(
        self,
        block: ImputedBlock,
        af: npt.NDArray[np.float64],
        dr2: npt.NDArray[np.float64],
        er2: npt.NDArray[np.float64],
    ) -> bytes:
        sites = range(block.start, block.stop)
        ids = dict.fromkeys(i for site in sites for i in self._id(site).split(";") if i != ".")
        # MAF of a multiallelic record: the frequency of its second most common allele.
        maf = sorted([max(round(1.0 - float(af.sum()), 9), 0.0), *af.tolist()])[-2]
        info = ";".join(
            [
                "AF=" + ",".join(f"{value:.5g}" for value in af.tolist()),
                f"MAF={maf:.5g}",
                "DR2=" + ",".join(f"{value:.4g}" for value in dr2.tolist()) + _er2(er2.tolist()),
                _origin(bool(block.typed.any())),
            ]
        )
        alts = ",".join(self._alleles(site)[1] for site in sites)
        return self._fixed_columns(block.start, self._alleles(block.start)[0], alts, ";".join(ids) or ".", info)


def _origin(typed: bool) -> str:
    return "TYPED" if typed else "IMP"


def _er2(values: list[float]) -> str:
    """INFO field ER2 of the record's ALT alleles; empty if no allele has a value."""
    if all(value != value for value in values):  # NaN
        return ""
    return ";ER2=" + ",".join("." if value != value else f"{value:.4g}" for value in values)


def _with_calls(block: ImputedBlock) -> Floats:
    """Haplotype dosages [l, n, 2] in which typed haplotypes have their alleles."""
    typed = block.typed
    if not typed.any():
        return block.haplotype_dosage
    hds = block.haplotype_dosage.copy()
    calls = block.calls[typed]
    hds[typed] = np.where(calls >= 0, calls, hds[typed])
    return hds


def _check_probability(values: npt.NDArray[np.floating]) -> None:
    """Raises VcfbertError('probability_invalid') if a value is not a probability."""
    tolerance = 0.5 / ONE  # float32 arithmetic may exceed 1 slightly
    # NaN fails both comparisons.
    if values.size and not (values.min() >= -tolerance and values.max() <= 1.0 + tolerance):
        raise VcfbertError(
            "probability_invalid",
            f"the model returned values that are not probabilities ({values.min()} to {values.max()})",
            hint="the model's weights may be damaged: run `vcfbert bundle verify`",
        )


def _thousandths(probability: npt.NDArray[np.floating]) -> Numbers:
    out = np.empty(probability.shape, dtype=np.int32)
    _round(np.ascontiguousarray(probability).reshape(-1), out.reshape(-1))
    return out


@jitted
def _round(probability: npt.NDArray[np.floating], out: Numbers) -> None:
    for i in range(len(out)):
        out[i] = np.int32(min(max(np.rint(probability[i] * np.float32(ONE)), np.float32(0.0)), np.float32(ONE)))


def _constrained_g2(gp: Floats, calls: Calls, q: Numbers, swapped: Flags) -> Numbers:
    """Probability of two ALT alleles [l, n] from ``gp`` [l, n, 3], rounded so that GP agrees with DS.

    ``q`` [l, n, 2] is in the written orientation; ``gp`` and ``calls`` are in the panel's.
    """
    _check_probability(gp[..., 2])
    ds = q[..., 0] + q[..., 1]
    g2 = _thousandths(gp[..., 2])
    g2[swapped] += ds[swapped] - ONE  # GP2 of the written orientation is GP0 of the panel's
    known = (calls[..., 0] >= 0) | (calls[..., 1] >= 0)
    g2[known] = independent_g2(q[known])
    return np.asarray(g2.clip(np.maximum(ds - ONE, 0), ds // 2))
