"""Decodes records into blocks of biallelic sites and int8 alleles.

A multiallelic record is split into one site per ALT allele. At such a site an allele is 1 where the haplotype carries
this ALT, and 0 where it carries REF or another ALT, as ``bcftools norm -m-`` writes it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.excluded_records import REASONS, ExcludedRecords
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.record_info import ANY_OTHER_ALLELE, NO_ALT, PANEL_REF, KeptFields, end_of
from vcfbert.genotypes.vcf_records import Record, Source, invalid

# If a larger share of a block's records has calls of another ploidy than a sample's other calls, the file is refused.
_MAX_MIXED_RECORDS: Final = 0.1

# Ploidy of a sample according to the calls read so far. A missing call does not show the ploidy.
_UNKNOWN, _HAPLOID, _DIPLOID = 0, 1, 2
_PADDED: Final = 3  # columns of a diploid record's calls


@dataclass(frozen=True)
class Genotypes:
    """Genotypes of one chromosome. Dims: site, sample, haplotype."""

    samples: tuple[str, ...]
    sites: Sites
    # [n_sites, n_samples, 2]: 0 = REF, 1 = ALT, -1 = missing. A half call such as 0/. has one missing allele. A haploid
    # sample has -2 in place of its second allele, at every site.
    alleles: npt.NDArray[np.int8]
    # [n_sites, n_samples]: False where a call is unphased ('/') and its two alleles differ in the record. This includes
    # half calls.
    phased: npt.NDArray[np.bool_]

    @property
    def haploid(self) -> npt.NDArray[np.bool_]:
        """[n_samples]: True for haploid samples, such as males between the PARs of X."""
        return haploid_samples(self.alleles)

    def take(self, index: npt.NDArray[np.int64]) -> Genotypes:
        """The genotypes at the sites of the given indices."""
        return Genotypes(self.samples, self.sites.take(index), self.alleles[index], self.phased[index])


def haploid_samples(alleles: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """[n_samples]: True where the second allele is ABSENT in ``alleles`` [n_sites, n_samples, 2].

    The first site is enough, because a haploid sample has ABSENT at all sites.
    """
    return np.asarray((alleles[:1, :, 1] == ABSENT).any(axis=0))


class RecordBatch:
    """Collects the records of one block. Checks order and duplicates across blocks.

    ``kept`` reads INFO of the records; without it symbolic alleles are refused. ``excluded`` gets the records
    that cannot be used; without it such a record raises its error.
    """

    def __init__(self, source: Source, kept: KeptFields | None, excluded: ExcludedRecords | None = None) -> None:
        self.source = source
        self.kept = kept
        self.excluded = excluded
        self.chrom = ""
        self.last_pos = 0
        self.last_alleles: list[tuple[str, str, int]] = []  # (ref, alt, end) of every site at last_pos
        self.ploidy = np.full(len(source.samples), _UNKNOWN, dtype=np.int8)
        self.only_dots = np.ones(len(source.samples), dtype=bool)  # every call so far is a single dot
        self._clear()

    def _clear(self) -> None:
        self.pos: list[int] = []
        self.ref: list[str] = []
        self.alts: list[list[str]] = []
        self.id: list[str] = []
        self.info: list[str] = []  # of each site, with ``kept``
        self.genotypes: list[npt.NDArray[np.int16]] = []  # [records, n_samples, 3]: two alleles and phase

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def haploid(self) -> npt.NDArray[np.bool_]:
        """[n_samples]: True for samples that have had a haploid call in a block taken so far."""
        return np.asarray(self.ploidy == _HAPLOID)

    @property
    def haploid_at_end(self) -> npt.NDArray[np.bool_]:
        """[n_samples]: as ``haploid``; of a target also samples with single dots alone, where others are haploid."""
        if self.excluded is None:
            return self.haploid
        return np.asarray(self.haploid | (self.only_dots & (self.ploidy == _UNKNOWN) & self.haploid.any()))

    def add(self, record: Record) -> None:
        """Adds the next record, or counts it as excluded; see ``stream_genotypes`` for the errors."""
        if self.excluded is None:
            self._add(record)
            return
        try:
            self._add(record)
        except InputError as error:
            reason = "ref_invalid" if error.code == "vcf_invalid" else error.code
            if reason not in REASONS:
                raise
            self.excluded.add(reason, record.CHROM, record.POS, record.ID, record.REF, record.ALT)

    def _add(self, record: Record) -> None:
        pos, ref = record.POS, record.REF.upper()
        alts = [alt.upper() if alt.isalpha() else alt for alt in record.ALT] or [NO_ALT]
        self.chrom = self.chrom or record.CHROM
        listed, alts = alts, self._usable(alts)
        self._check_alleles(pos, ref, alts)
        info = [""] * len(alts) if self.kept is None else self.kept.texts(record, alts)
        self._check_order(pos, ref, alts, info)
        genotypes = self._genotypes(record)
        if alts != listed:
            _number_again(genotypes, listed, alts)
        self.info += info
        self.pos.append(pos)
        self.ref.append(ref)
        self.alts.append(alts)
        self.id.append(record.ID or ".")
        self.genotypes.append(genotypes[None])

    def add_plain(self, sites: Sites, genotypes: npt.NDArray[np.int16]) -> None:
        """Adds records as ``plain_text`` reads them, which follow those added so far. ``genotypes`` [l, n_samples, 3].

        They have no errors, and neither has what they are checked for here.
        """
        pos, ref, alt = sites.pos.tolist(), sites.ref.tolist(), sites.alt.tolist()
        self.chrom = self.chrom or sites.chrom
        if pos[-1] > self.last_pos:
            self.last_pos, self.last_alleles = pos[-1], []
        first = bisect_left(pos, self.last_pos)
        self.last_alleles += [(*alleles, 0) for alleles in zip(ref[first:], alt[first:], strict=True)]
        self.info += [""] * len(pos)
        self.pos += pos
        self.ref += ref
        self.alts += [[one] for one in alt]
        self.id += sites.id.tolist()
        self.genotypes.append(genotypes)

    def _usable(self, alts: list[str]) -> list[str]:
        """The ALT alleles of a target that are sequences, if there are any. A gVCF's reference block has no ALT."""
        if self.excluded is None or all(alt.isalpha() or alt == NO_ALT for alt in alts):
            return alts
        if all(alt in ANY_OTHER_ALLELE for alt in alts):
            return [NO_ALT]
        return [alt for alt in alts if alt.isalpha()] or alts

    def calls(self, record: Record) -> npt.NDArray[np.int16] | None:
        """The calls [n_samples, 3] of a reference block, missing where not REF; None if they cannot be used."""
        try:
            genotypes = self._genotypes(record)
        except InputError:
            return None
        genotypes[:, :2] = np.where(genotypes[:, :2] > 0, MISSING, genotypes[:, :2])
        return genotypes

    def add_reference(self, pos: int, genotypes: npt.NDArray[np.int16]) -> None:
        """Adds a position within a reference block, with the block's ``calls``."""
        self.info.append("")
        self.pos.append(pos)
        self.ref.append(PANEL_REF)
        self.alts.append([NO_ALT])
        self.id.append(".")
        self.genotypes.append(genotypes[None])

    def take(self) -> Genotypes:
        """Returns the collected block and empties the batch."""
        genotypes = self._without_mixed_ploidy(np.concatenate(self.genotypes))  # [records, n_samples, 3]
        self.only_dots &= ((genotypes[:, :, 0] < 0) & (genotypes[:, :, 1] == ABSENT)).all(axis=0)
        alleles, phased = self._alleles_and_phase(genotypes)
        n_alts = np.array([len(alts) for alts in self.alts])
        self._check_allele_numbers(alleles, n_alts)
        record = np.repeat(np.arange(len(n_alts)), n_alts)  # record of every site
        number = np.arange(len(record)) - np.repeat(np.cumsum(n_alts) - n_alts, n_alts)  # ALT number, from 0
        split = alleles.astype(np.int8)
        if len(record) > len(n_alts):
            per_site = alleles[record]
            split = (per_site == number[:, None, None] + 1).astype(np.int8)
            split[per_site < 0] = MISSING
            split[:, self.ploidy == _HAPLOID, 1] = ABSENT
        alt = np.array([alt for alts in self.alts for alt in alts], dtype=object)
        sites = Sites(
            chrom=self.chrom,
            pos=np.array(self.pos, dtype=np.int32)[record],
            ref=np.array(self.ref, dtype=object)[record],
            alt=alt,
            id=np.array(self.id, dtype=object)[record],
            continues=number > 0,
            info=None if self.kept is None else self.kept.info(alt, np.array(self.info, dtype=object)),
        )
        self._clear()
        return Genotypes(self.source.samples, sites, split, phased[record])

    def _check_alleles(self, pos: int, ref: str, alts: list[str]) -> None:
        if not ref.isalpha():
            raise invalid(self.source.path, f"REF is {ref!r}", self._at(pos))
        for alt in alts:
            if not (alt.isalpha() or alt == NO_ALT or self.kept is not None):
                raise InputError(
                    "symbolic_alt",
                    f"ALT is {alt!r}: symbolic alleles, breakends and '*' cannot be typed",
                    where=self._at(pos),
                    hint="remove such records: bcftools view -e 'ALT~\"[^ACGTN]\"' IN -Ob -o OUT",
                )

    def _check_order(self, pos: int, ref: str, alts: list[str], info: list[str]) -> None:
        alleles = [(ref, alt, end_of(text) if text else 0) for alt, text in zip(alts, info, strict=True)]
        if pos < self.last_pos:
            raise InputError(
                "unsorted_records",
                f"the record follows position {self.last_pos}: records must be sorted by position",
                where=self._at(pos),
                hint="sort the file: bcftools sort",
            )
        if pos > self.last_pos:
            self.last_pos, self.last_alleles = pos, alleles
            return
        together = [*self.last_alleles, *alleles]
        if len(set(together)) < len(together):
            raise InputError(
                "duplicate_records",
                f"the alleles {ref}>{','.join(alts)} occur twice at this position",
                where=self._at(pos),
                hint="keep one of them: bcftools norm --rm-dup exact",
            )
        self.last_alleles = together

    def _genotypes(self, record: Record) -> npt.NDArray[np.int16]:
        try:
            genotypes = record.genotype.array()
        except InputError:  # the file is damaged: the source says how
            raise
        except Exception as error:  # cyvcf2 raises bare exceptions
            raise InputError(
                "no_genotypes",
                "the record has no GT",
                where=self._at(record.POS),
                hint="every record must have FORMAT GT",
            ) from error
        while genotypes.shape[1] > _PADDED and (genotypes[:, -2] == ABSENT).all():
            genotypes = np.delete(genotypes, -2, axis=1)  # a BCF has room for the leading phase mark of VCF 4.4
        ploidy = genotypes.shape[1] - 1
        if ploidy == 1:
            return np.insert(genotypes, 1, ABSENT, axis=1)
        if ploidy > 2:
            raise self._ploidy_error(f"the record has calls of {ploidy} alleles", record.POS)
        return genotypes

    def _without_mixed_ploidy(self, genotypes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Excludes the records in which a sample's call is not of the ploidy of its other calls, if they are few."""
        if self.excluded is None:
            return genotypes
        first, second = genotypes[:, :, 0], genotypes[:, :, 1]
        one, two = (first >= 0) & (second == ABSENT), (first >= 0) & (second >= 0)
        most_are_one = one.sum(axis=0) > two.sum(axis=0)
        haploid = np.where(self.ploidy == _UNKNOWN, most_are_one, self.ploidy == _HAPLOID)
        mixed: npt.NDArray[np.bool_] = np.asarray(np.where(haploid, two, one).any(axis=1))
        if not 0 < mixed.sum() <= max(1, int(_MAX_MIXED_RECORDS * len(mixed))) or mixed.all():
            return genotypes
        for i in np.flatnonzero(mixed).tolist():
            self.excluded.add("mixed_ploidy", self.chrom, self.pos[i], self.id[i], self.ref[i], self.alts[i])
        kept = np.flatnonzero(~mixed).tolist()
        of_site = np.repeat(~mixed, [len(alts) for alts in self.alts])
        self.info = [text for text, is_kept in zip(self.info, of_site.tolist(), strict=True) if is_kept]
        self.pos = [self.pos[i] for i in kept]
        self.ref, self.id = ([values[i] for i in kept] for values in (self.ref, self.id))
        self.alts = [self.alts[i] for i in kept]
        return genotypes[kept]

    def _alleles_and_phase(
        self, genotypes: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
        """Allele numbers of the records [records, n_samples, 2], and flags of phased calls [records, n_samples]."""
        alleles = genotypes[:, :, :2]
        first, second = alleles[:, :, 0], alleles[:, :, 1]
        missing = (first < 0) | (second < 0)
        unphased = (first != second) & (genotypes[:, :, 2] == 0)
        if missing.any() or (self.ploidy == _HAPLOID).any():
            one = (first >= 0) & (second == ABSENT)  # cyvcf2 pads haploid calls with -2 too
            self._settle_ploidy(one, ~missing)
            haploid = self.ploidy == _HAPLOID
            unphased &= ((first >= 0) | (second >= 0)) & ~haploid
            second[(second < 0) & ~one] = MISSING
            second[:, haploid] = ABSENT
        else:
            self.ploidy[:] = _DIPLOID
        return alleles, ~unphased

    def _settle_ploidy(self, one: npt.NDArray[np.bool_], two: npt.NDArray[np.bool_]) -> None:
        """Sets the samples' ploidy. ``one`` and ``two`` [records, n_samples]: known calls of one and of two alleles."""
        haploid, diploid = one.any(axis=0), two.any(axis=0)
        mixed = (haploid & diploid) | (haploid & (self.ploidy == _DIPLOID)) | (diploid & (self.ploidy == _HAPLOID))
        if mixed.any():
            sample = int(np.flatnonzero(mixed)[0])
            told = np.append(self.ploidy[sample], np.where(one[:, sample], _HAPLOID, two[:, sample] * _DIPLOID))
            calls = np.flatnonzero(told)
            other = calls[told[calls] != told[calls[0]]][0]
            now, before = ("haploid", "diploid") if told[other] == _HAPLOID else ("diploid", "haploid")
            what = f"sample {self.source.samples[sample]!r} is {now} here and {before} before"
            raise self._ploidy_error(what, self.pos[other - 1])
        self.ploidy[haploid], self.ploidy[diploid] = _HAPLOID, _DIPLOID

    def _check_allele_numbers(self, alleles: npt.NDArray[np.int16], n_alts: npt.NDArray[np.int64]) -> None:
        listed = np.array([0 if alts == [NO_ALT] else len(alts) for alts in self.alts])
        wrong = np.flatnonzero(alleles.max(axis=(1, 2)) > listed)
        if len(wrong):
            where = self._at(self.pos[wrong[0]])
            raise invalid(self.source.path, "a genotype has an allele number that the record does not list", where)

    def _ploidy_error(self, what: str, pos: int) -> InputError:
        return InputError(
            "mixed_ploidy",
            f"{what}: a sample must be haploid throughout, or diploid",
            where=self._at(pos),
            hint="ploidy may change only at the borders of the PARs of X in the panel's genome build: "
            "bcftools +fixploidy writes calls of one ploidy",
        )

    def _at(self, pos: int) -> str:
        return f"{self.source.path}, record {self.chrom}:{pos}"


def _number_again(genotypes: npt.NDArray[np.int16], listed: list[str], kept: list[str]) -> None:
    """Numbers alleles by the ``kept`` ALT alleles instead of the ``listed`` ones. Calls of the others are missing."""
    alleles = genotypes[:, :2]
    number = np.array([0, *(kept.index(alt) + 1 if alt in kept else MISSING for alt in listed)], dtype=np.int16)
    known = (alleles > 0) & (alleles <= len(listed))
    alleles[known] = number[alleles[known]]
