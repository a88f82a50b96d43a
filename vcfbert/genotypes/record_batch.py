"""Decodes records into blocks of biallelic sites and int8 alleles.

A multiallelic record is split into one site per ALT allele. At such a site an allele is 1 where the haplotype carries
this ALT, and 0 where it carries REF or another ALT, as ``bcftools norm -m-`` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.record_info import NO_ALT, KeptFields, end_of
from vcfbert.genotypes.vcf_records import Record, Source, invalid

# Ploidy of a sample according to the calls read so far. A missing call does not show the ploidy.
_UNKNOWN, _HAPLOID, _DIPLOID = 0, 1, 2


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


def haploid_samples(alleles: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """[n_samples]: True where the second allele is ABSENT in ``alleles`` [n_sites, n_samples, 2].

    The first site is enough, because a haploid sample has ABSENT at all sites.
    """
    return np.asarray((alleles[:1, :, 1] == ABSENT).any(axis=0))


class RecordBatch:
    """Collects the records of one block. Checks order and duplicates across blocks.

    ``kept`` reads INFO of the records; without it symbolic alleles are refused.
    """

    def __init__(self, source: Source, kept: KeptFields | None) -> None:
        self.source = source
        self.kept = kept
        self.chrom = ""
        self.last_pos = 0
        self.last_alleles: list[tuple[str, str, int]] = []  # (ref, alt, end) of every site at last_pos
        self.ploidy = np.full(len(source.samples), _UNKNOWN, dtype=np.int8)
        self._clear()

    def _clear(self) -> None:
        self.pos: list[int] = []
        self.ref: list[str] = []
        self.alts: list[list[str]] = []
        self.id: list[str] = []
        self.info: list[str] = []  # of each site, with ``kept``
        self.genotypes: list[npt.NDArray[np.int16]] = []  # [n_samples, 3]: two alleles and phase

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def haploid(self) -> npt.NDArray[np.bool_]:
        """[n_samples]: True for samples that have had a haploid call in a block taken so far."""
        return np.asarray(self.ploidy == _HAPLOID)

    def add(self, record: Record) -> None:
        """Adds the next record; see ``stream_genotypes`` for the errors."""
        pos, ref = record.POS, record.REF.upper()
        alts = [alt.upper() if alt.isalpha() else alt for alt in record.ALT] or [NO_ALT]
        self.chrom = self.chrom or record.CHROM
        self._check_alleles(pos, ref, alts)
        info = [""] * len(alts) if self.kept is None else self.kept.texts(record, alts)
        self._check_order(pos, ref, alts, info)
        self.info += info
        self.pos.append(pos)
        self.ref.append(ref)
        self.alts.append(alts)
        self.id.append(record.ID or ".")
        self.genotypes.append(self._genotypes(record))

    def take(self) -> Genotypes:
        """Returns the collected block and empties the batch."""
        genotypes = np.stack(self.genotypes)  # [records, n_samples, 3]
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
        self.last_alleles = [*self.last_alleles, *alleles]
        if len(set(self.last_alleles)) < len(self.last_alleles):
            raise InputError(
                "duplicate_records",
                f"the alleles {ref}>{','.join(alts)} occur twice at this position",
                where=self._at(pos),
                hint="keep one of them: bcftools norm --rm-dup exact",
            )

    def _genotypes(self, record: Record) -> npt.NDArray[np.int16]:
        try:
            genotypes = record.genotype.array()
        except Exception as error:  # cyvcf2 raises bare exceptions
            raise InputError(
                "no_genotypes",
                "the record has no GT",
                where=self._at(record.POS),
                hint="every record must have FORMAT GT",
            ) from error
        ploidy = genotypes.shape[1] - 1
        if ploidy == 1:
            return np.insert(genotypes, 1, ABSENT, axis=1)
        if ploidy > 2:
            raise self._ploidy_error(f"the record has calls of {ploidy} alleles", record.POS)
        return genotypes

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
