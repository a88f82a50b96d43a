"""Reading genotypes: VCF or BCF -> biallelic sites and int8 alleles, whole or in blocks of bounded memory.

Multiallelic records are split into one site an ALT allele: there, an allele is 1 where the haplotype carries that
very ALT and 0 where it carries REF or another ALT, as ``bcftools norm -m-`` writes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import numpy.typing as npt
import pysam

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.vcf_file import VcfFile, inspect, truncated

# The ALT of a record that has none: a site where the file only knows the reference allele.
NO_ALT = "."

# A block holds at most this many genotypes (records x samples), at 6 bytes each while it is being decoded.
BLOCK_GENOTYPES = 4_000_000
BLOCK_RECORDS = 4096

# Ploidy of a sample, as far as its calls have told; a missing call tells nothing, however it is written.
_UNKNOWN, _HAPLOID, _DIPLOID = 0, 1, 2

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Genotypes:
    """Genotypes of one chromosome. Dims: site, sample, haplotype.

    ``alleles`` int8 [n_sites, n_samples, 2]: 0 = REF, 1 = ALT, -1 = missing, of a half call such as 0/. one of the
    two. A haploid sample has -2 in place of its second allele, at every site. ``phased`` bool [n_sites, n_samples]:
    False where the order of a call's alleles says nothing ('/') and they are not alike in the record, half calls
    included.
    """

    samples: tuple[str, ...]
    sites: Sites
    alleles: npt.NDArray[np.int8]
    phased: npt.NDArray[np.bool_]

    @property
    def haploid(self) -> npt.NDArray[np.bool_]:
        """[n_samples]: samples of one haplotype, such as males at chromosome X outside of its PAR."""
        return haploid_samples(self.alleles)


def haploid_samples(alleles: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """[n_samples]: those whose second allele is ABSENT in alleles [n_sites, n_samples, 2]: at one site, at all."""
    return np.asarray((alleles[:1, :, 1] == ABSENT).any(axis=0))


def read_genotypes(
    path: Path, *, region: str | None = None, progress: Progress | None = None, symbolic: bool = False
) -> Genotypes:
    """All sites of one chromosome, or of ``region`` (CHROM or CHROM:FROM-TO, 1-based, inclusive), in memory.

    ``progress`` is called with the number of sites read so far. ``symbolic`` keeps ALT alleles such as <DEL> and '*'
    as text, which is enough to compare two files. Raises InputError; see ``stream_genotypes``.
    """
    blocks = list(stream_genotypes(path, region=region, progress=progress, symbolic=symbolic))
    if len(blocks) == 1:
        return blocks[0]
    alleles = np.concatenate([block.alleles for block in blocks])
    alleles[:, blocks[-1].haploid, 1] = ABSENT  # of samples whose first calls, all missing, did not tell yet
    phased = np.concatenate([block.phased for block in blocks])
    phased[:, blocks[-1].haploid] = True
    return Genotypes(blocks[0].samples, join_sites([block.sites for block in blocks]), alleles, phased)


def join_sites(parts: list[Sites]) -> Sites:
    """The sites of consecutive blocks of one chromosome."""
    names = ("pos", "ref", "alt", "id", "continues")
    return Sites(parts[0].chrom, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def stream_genotypes(
    path: Path,
    *,
    region: str | None = None,
    progress: Progress | None = None,
    block_genotypes: int = BLOCK_GENOTYPES,
    symbolic: bool = False,
) -> Iterator[Genotypes]:
    """The same in blocks of consecutive records, at least one; a multiallelic record is never torn apart.

    A sample is haploid or diploid throughout; before its first call that is not missing it passes for diploid.

    Raises InputError, before or while reading: file_not_found, empty, not_vcf, truncated, no_samples,
    duplicate_samples, region_invalid, chromosome_missing, region_empty, several_chromosomes, unsorted_records,
    duplicate_records, symbolic_alt, no_genotypes, mixed_ploidy, vcf_invalid.
    """
    file = inspect(path)
    wanted = None if region is None else Region.parse(region)
    size = min(max(block_genotypes // len(file.samples), 1), BLOCK_RECORDS)
    batch = _Batch(file, symbolic)
    n_sites = 0
    with _as_text(file):
        for record in _records(file, wanted):
            batch.add(record)
            if len(batch) == size:
                block = batch.take()
                n_sites += len(block.sites)
                if progress is not None:
                    progress(n_sites)
                yield block
        if len(batch):
            block = batch.take()
            if progress is not None:
                progress(n_sites + len(block.sites))
            yield block
        elif n_sites == 0:
            raise _nothing_read(file, wanted)


@contextmanager
def _as_text(file: VcfFile) -> Iterator[None]:
    """cyvcf2 decodes names, alleles and ids where they are asked for. Raises InputError('vcf_invalid')."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _invalid(file, "a record has bytes that are no text") from error


def _records(file: VcfFile, region: Region | None) -> Iterator[Any]:
    """cyvcf2's records, those of ``region`` alone; through the index where there is one."""
    # htslib's own words would reach the user beside ours, from another thread and without the file's name.
    cyvcf2.cyvcf2.set_htslib_log_level(0)
    try:
        reader = cyvcf2.VCF(str(file.path), lazy=True, threads=2)
    except Exception as error:  # cyvcf2 raises bare exceptions
        raise _invalid(file, f"its header cannot be parsed ({error})") from error
    try:
        if region is not None and file.has_index:
            yield from _indexed(reader, file, region)
        else:
            yield from _scanned(reader, file, region)
    finally:
        reader.close()


def _indexed(reader: Any, file: VcfFile, region: Region) -> Iterator[Any]:
    name = next((name for name in reader.seqnames if same_chrom(name, region.chrom)), None)
    if name is None:
        return
    stop = "" if region.stop is None else region.stop
    records = reader(f"{name}:{region.start}-{stop}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty region: _nothing_read says it better
        first = next(records, None)
    if first is not None:
        # An index finds what overlaps: a deletion that begins before the region is not in it.
        yield from (record for record in chain([first], records) if region.holds(record.POS))
    _check_undamaged(file, name, region)


def _check_undamaged(file: VcfFile, name: str, region: Region) -> None:
    """Reads the region once more with pysam: cyvcf2 takes damaged data within an indexed query for its end."""
    verbosity = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(file.path)) as source:
            try:
                records = source.fetch(name, region.start - 1, region.stop)
            except ValueError:  # the index has nothing of this chromosome, and so nothing was read
                return
            for _ in records:
                pass
    except OSError as error:
        raise _invalid(file, "a record cannot be parsed, or the data are damaged") from error
    finally:
        pysam.set_verbosity(verbosity)


def _scanned(reader: Any, file: VcfFile, region: Region | None) -> Iterator[Any]:
    chrom, inside = None, False
    records = iter(reader)
    while (record := _next(records, file)) is not None:
        name = record.CHROM
        if name != chrom:
            if region is None and chrom is not None:
                raise InputError(
                    "several_chromosomes",
                    f"the file holds several chromosomes ({chrom}, {name}, ...)",
                    where=str(file.path),
                    hint=f"name the one to read as region, such as {chrom}",
                )
            chrom = name
            inside = region is None or same_chrom(chrom, region.chrom)
        if inside and (region is None or region.holds(record.POS)):
            yield record


def _next(records: Iterator[Any], file: VcfFile) -> Any | None:
    try:
        return next(records, None)
    except Exception as error:  # cyvcf2 raises bare exceptions
        if file.container == "plain" and not _ends_with_newline(file.path):
            raise truncated(file.path, "its last line is incomplete") from error
        raise _invalid(file, "a record cannot be parsed, or the data are damaged") from error


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, 2)
        return handle.read() == b"\n"


class _Batch:
    """Records being collected for one block. Order and duplicates are checked across blocks."""

    def __init__(self, file: VcfFile, symbolic: bool) -> None:
        self.file = file
        self.symbolic = symbolic
        self.chrom = ""
        self.last_pos = 0
        self.last_alleles: list[tuple[str, str]] = []  # (ref, alt) of every site at last_pos
        self.ploidy = np.full(len(file.samples), _UNKNOWN, dtype=np.int8)
        self._clear()

    def _clear(self) -> None:
        self.pos: list[int] = []
        self.ref: list[str] = []
        self.alts: list[list[str]] = []
        self.id: list[str] = []
        self.genotypes: list[npt.NDArray[np.int16]] = []  # [n_samples, 3]: two alleles and phase

    def __len__(self) -> int:
        return len(self.pos)

    def add(self, record: Any) -> None:
        pos, ref = record.POS, record.REF.upper()
        alts = [alt.upper() if alt.isalpha() else alt for alt in record.ALT] or [NO_ALT]
        self.chrom = self.chrom or record.CHROM
        self._check_alleles(pos, ref, alts)
        self._check_order(pos, ref, alts)
        self.pos.append(pos)
        self.ref.append(ref)
        self.alts.append(alts)
        self.id.append(record.ID or ".")
        self.genotypes.append(self._genotypes(record))

    def take(self) -> Genotypes:
        """The block collected so far; the batch is empty afterwards."""
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
        sites = Sites(
            chrom=self.chrom,
            pos=np.array(self.pos, dtype=np.int32)[record],
            ref=np.array(self.ref, dtype=object)[record],
            alt=np.array([alt for alts in self.alts for alt in alts], dtype=object),
            id=np.array(self.id, dtype=object)[record],
            continues=number > 0,
        )
        self._clear()
        return Genotypes(self.file.samples, sites, split, phased[record])

    def _check_alleles(self, pos: int, ref: str, alts: list[str]) -> None:
        if not ref.isalpha():
            raise _invalid(self.file, f"REF is {ref!r}", self._at(pos))
        for alt in alts:
            if not (alt.isalpha() or alt == NO_ALT or self.symbolic):
                raise InputError(
                    "symbolic_alt",
                    f"ALT is {alt!r}: symbolic alleles, breakends and '*' cannot be imputed",
                    where=self._at(pos),
                    hint="leave such records out: bcftools view -e 'ALT~\"[^ACGTN]\"' IN -Ob -o OUT",
                )

    def _check_order(self, pos: int, ref: str, alts: list[str]) -> None:
        alleles = [(ref, alt) for alt in alts]
        if pos < self.last_pos:
            raise InputError(
                "unsorted_records",
                f"this record comes after position {self.last_pos}: records must be sorted by position",
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
                f"the alleles {ref}>{','.join(alts)} appear twice at this position",
                where=self._at(pos),
                hint="keep one of them: bcftools norm --rm-dup exact",
            )

    def _genotypes(self, record: Any) -> npt.NDArray[np.int16]:
        try:
            genotypes: npt.NDArray[np.int16] = record.genotype.array()
        except Exception as error:  # cyvcf2 raises bare exceptions
            raise InputError(
                "no_genotypes", "the record has no GT", where=self._at(record.POS), hint="every record needs FORMAT GT"
            ) from error
        ploidy = genotypes.shape[1] - 1
        if ploidy == 1:
            return np.insert(genotypes, 1, ABSENT, axis=1)
        if ploidy > 2:
            raise self._ploidy_error(f"it has calls of {ploidy} alleles", record.POS)
        return genotypes

    def _alleles_and_phase(
        self, genotypes: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
        """Allele numbers of the record [records, n_samples, 2] and phase [records, n_samples]."""
        alleles = genotypes[:, :, :2]
        first, second = alleles[:, :, 0], alleles[:, :, 1]
        missing = (first < 0) | (second < 0)
        unphased = (first != second) & (genotypes[:, :, 2] == 0)
        if missing.any() or (self.ploidy == _HAPLOID).any():
            one = (first >= 0) & (second == ABSENT)  # cyvcf2 pads haploid calls among diploid ones with the same -2
            self._settle_ploidy(one, ~missing)
            haploid = self.ploidy == _HAPLOID
            unphased &= ((first >= 0) | (second >= 0)) & ~haploid
            second[(second < 0) & ~one] = MISSING
            second[:, haploid] = ABSENT
        else:
            self.ploidy[:] = _DIPLOID
        return alleles, ~unphased

    def _settle_ploidy(self, one: npt.NDArray[np.bool_], two: npt.NDArray[np.bool_]) -> None:
        """Takes note of the samples' ploidy from their calls of ``one`` and of ``two`` alleles [records, n_samples]."""
        haploid, diploid = one.any(axis=0), two.any(axis=0)
        mixed = (haploid & diploid) | (haploid & (self.ploidy == _DIPLOID)) | (diploid & (self.ploidy == _HAPLOID))
        if mixed.any():
            sample = int(np.flatnonzero(mixed)[0])
            told = np.append(self.ploidy[sample], np.where(one[:, sample], _HAPLOID, two[:, sample] * _DIPLOID))
            calls = np.flatnonzero(told)
            other = calls[told[calls] != told[calls[0]]][0]
            now, before = ("haploid", "diploid") if told[other] == _HAPLOID else ("diploid", "haploid")
            what = f"sample {self.file.samples[sample]!r} is {now} here and {before} before"
            raise self._ploidy_error(what, self.pos[other - 1])
        self.ploidy[haploid], self.ploidy[diploid] = _HAPLOID, _DIPLOID

    def _check_allele_numbers(self, alleles: npt.NDArray[np.int16], n_alts: npt.NDArray[np.int64]) -> None:
        listed = np.array([0 if alts == [NO_ALT] else len(alts) for alts in self.alts])
        wrong = np.flatnonzero(alleles.max(axis=(1, 2)) > listed)
        if len(wrong):
            where = self._at(self.pos[wrong[0]])
            raise _invalid(self.file, "a genotype names an allele that the record does not list", where)

    def _ploidy_error(self, what: str, pos: int) -> InputError:
        return InputError(
            "mixed_ploidy",
            f"{what}: a sample must be haploid throughout, or diploid",
            where=self._at(pos),
            hint="impute chromosome X within and outside of the PAR from two files (bcftools view -r REGION), or write "
            "haploid calls as homozygous (bcftools +fixploidy)",
        )

    def _at(self, pos: int) -> str:
        return f"{self.file.path}, record {self.chrom}:{pos}"


def _invalid(file: VcfFile, what: str, where: str | None = None) -> InputError:
    return InputError(
        "vcf_invalid", what, where=where or str(file.path), hint="`bcftools view` on the file shows what is wrong"
    )


def _nothing_read(file: VcfFile, region: Region | None) -> InputError:
    where = str(file.path)
    if region is None:
        return InputError("empty", "the file has no records", where=where, hint="check how it was written")
    present = _chromosomes(file)
    if any(same_chrom(name, region.chrom) for name in present):
        return InputError("region_empty", f"no record lies in region {region}", where=where, hint="check its bounds")
    return InputError(
        "chromosome_missing",
        f"the file has no chromosome {region.chrom}; it holds {', '.join(present[:30]) or 'nothing'}",
        where=where,
        hint="choose one of those",
    )


def _chromosomes(file: VcfFile) -> list[str]:
    """Names of the chromosomes that have records, in the file's order."""
    names: dict[str, None] = {}
    records = iter(cyvcf2.VCF(str(file.path), lazy=True, threads=2))
    while (record := _next(records, file)) is not None:
        names[record.CHROM] = None
    return list(names)
