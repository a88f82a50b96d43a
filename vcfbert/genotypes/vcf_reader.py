"""Reads genotypes of a VCF, BCF or VCF Zarr as biallelic sites and int8 alleles, whole or in blocks of bounded memory.

A multiallelic record is split into one site per ALT allele. At such a site an allele is 1 where the haplotype carries
this ALT, and 0 where it carries REF or another ALT, as ``bcftools norm -m-`` writes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.parsing import messages as parsed
from vcfbert.genotypes.parsing.messages import in_range
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.record_info import NO_ALT, KeptFields, end_of, join_info
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.sex_chromosomes import Build, is_x, regions_of_x
from vcfbert.genotypes.vcf_records import Record, Source, VcfRecords, as_text, invalid
from vcfbert.genotypes.vcf_zarr import ZarrRecords, is_vcf_zarr

# Maximum number of genotypes (records x samples) of a block. Decoding takes 6 bytes per genotype.
BLOCK_GENOTYPES = 4_000_000
BLOCK_RECORDS = 4096

# Ploidy of a sample according to the calls read so far. A missing call does not show the ploidy.
_UNKNOWN, _HAPLOID, _DIPLOID = 0, 1, 2

_LOG = logging.getLogger(__name__)

Progress = Callable[[int], None]


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


def read_genotypes(
    path: Path,
    *,
    region: str | Region | None = None,
    progress: Progress | None = None,
    block_genotypes: int = BLOCK_GENOTYPES,
    symbolic: bool = False,
) -> Genotypes:
    """Reads all sites of one chromosome, or of ``region`` (CHROM or CHROM:FROM-TO, 1-based, inclusive), into memory.

    ``progress`` is called with the number of sites read so far. ``block_genotypes``: genotypes parsed at once.
    ``symbolic`` accepts ALT alleles such as <DEL> and '*', and keeps INFO of their records (``record_info.py``). Raises
    InputError; see ``stream_genotypes``.
    """
    blocks = stream_genotypes(
        path, region=region, progress=progress, block_genotypes=block_genotypes, symbolic=symbolic
    )
    return _joined(list(blocks))


def _joined(blocks: list[Genotypes]) -> Genotypes:
    if len(blocks) == 1:
        return blocks[0]
    alleles = np.concatenate([block.alleles for block in blocks])
    alleles[:, blocks[-1].haploid, 1] = ABSENT  # samples whose first calls are all missing were read as diploid
    phased = np.concatenate([block.phased for block in blocks])
    phased[:, blocks[-1].haploid] = True
    return Genotypes(blocks[0].samples, join_sites([block.sites for block in blocks]), alleles, phased)


def join_sites(parts: list[Sites]) -> Sites:
    """The sites of consecutive blocks of one chromosome."""
    names = ("pos", "ref", "alt", "id", "continues")
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Sites(parts[0].chrom, *columns, join_info([(part.info, len(part)) for part in parts]))


def stream_genotypes(
    path: Path,
    *,
    region: str | Region | None = None,
    progress: Progress | None = None,
    block_genotypes: int = BLOCK_GENOTYPES,
    symbolic: bool = False,
) -> Iterator[Genotypes]:
    """As ``read_genotypes``, in blocks of consecutive records; gives at least one block.

    All sites of a multiallelic record are in one block. A sample must be haploid or diploid throughout. It is read as
    diploid until its first known call.

    The file is parsed in another process (``genotypes.parsing``).

    Raises InputError, before or while reading: those of ``open_source``, region_invalid, chromosome_missing,
    region_empty, several_chromosomes, unsorted_records, duplicate_records, symbolic_alt, no_genotypes, mixed_ploidy,
    vcf_invalid, file_unreadable.
    """
    wanted = Region.parse(region) if isinstance(region, str) else region
    n_sites = 0
    for block in in_parser(genotype_blocks, path, wanted, block_genotypes, symbolic, kinds=(_GENOTYPES,)):
        n_sites += len(block.sites)
        if progress is not None:
            progress(n_sites)
        yield block


def _fits(block: Genotypes) -> bool:
    return len(block.sites) > 0 and in_range(block.alleles, ABSENT, 1)


_GENOTYPES: Final = parsed.Record(
    Genotypes,
    _fits,
    samples=parsed.Texts("sample", as_tuple=True),
    sites=parsed.SITES,
    alleles=parsed.Array("int8", "site", "sample", 2),
    phased=parsed.Array("bool", "site", "sample"),
)


def genotype_blocks(
    path: Path, trace: Trace, region: Region | None, block_genotypes: int, symbolic: bool
) -> Iterator[Genotypes]:
    """The blocks of ``stream_genotypes``, which has the arguments. Runs in a parser process."""
    source = open_source(path, trace)
    first: Region | None = None
    for part, block in stream_parts(
        source,
        lambda chrom: (Region(chrom),),
        region=region,
        block_genotypes=block_genotypes,
        symbolic=symbolic,
    ):
        first = first or part
        if part != first:
            raise several_chromosomes(path, first, part)
        yield block
    if first is None:
        raise nothing_read(path, region, source.chromosomes())


def read_parts(
    path: Path, *, region: str | Region | None = None, build: Build | None = None, symbolic: bool = False
) -> list[Genotypes]:
    """As ``read_genotypes``, for several chromosomes: the genotypes of each, and of each of the three parts of X.

    A sample may be haploid in one part of X and diploid in the next. Without ``build`` X is one part.
    """
    wanted = Region.parse(region) if isinstance(region, str) else region
    blocks_of: dict[Region, list[Genotypes]] = {}
    for part, block in in_parser(part_blocks, path, wanted, build, symbolic, kinds=(_PART_BLOCK,)):
        blocks_of.setdefault(part, []).append(block)
    return [_joined(blocks) for blocks in blocks_of.values()]


class PartBlock(NamedTuple):
    """Consecutive sites of a part of a chromosome."""

    part: Region
    genotypes: Genotypes


_PART_BLOCK: Final = parsed.Record(PartBlock, part=parsed.REGION, genotypes=_GENOTYPES)


def part_blocks(
    path: Path, trace: Trace, region: Region | None, build: Build | None, symbolic: bool
) -> Iterator[PartBlock]:
    """The blocks of ``read_parts``, which has the arguments. Runs in a parser process."""
    source, empty = open_source(path, trace), True
    for part, block in stream_parts(source, partial(ploidy_parts, build=build), region=region, symbolic=symbolic):
        yield PartBlock(part, block)
        empty = False
    if empty:
        raise nothing_read(path, region, source.chromosomes())


def ploidy_parts(chrom: str, build: Build | None) -> tuple[Region, ...]:
    """The regions of a chromosome within which a sample's ploidy is the same. Without ``build`` X is one."""
    return regions_of_x(chrom, build) if build is not None and is_x(chrom) else (Region(chrom),)


def stream_parts(
    source: Source,
    parts_of: Callable[[str], Sequence[Region]],
    *,
    region: Region | None = None,
    block_genotypes: int = BLOCK_GENOTYPES,
    symbolic: bool = False,
    info: Sequence[str] = (),
) -> Iterator[tuple[Region, Genotypes]]:
    """Reads all chromosomes, or ``region``, in one pass; gives each block with the part in which it lies.

    ``parts_of`` returns the regions that cover a chromosome, such as the three of X. A block lies within one part. A
    sample may be haploid in one part and diploid in the next. ``symbolic``: as in ``read_genotypes``; the fields
    ``info`` are then kept of all records.

    Raises InputError as ``stream_genotypes`` does, and unsorted_records if a chromosome's records are not consecutive.
    """
    size = batch_size(source, block_genotypes)
    kept = KeptFields(source.header(), info, where=str(source.path)) if symbolic else None
    for part, batch in _batches(source, parts_of, region, size, kept):
        yield part, batch.take()


def _batches(
    source: Source,
    parts_of: Callable[[str], Sequence[Region]],
    region: Region | None,
    size: int,
    kept: KeptFields | None,
) -> Iterator[tuple[Region, RecordBatch]]:
    """Batches that are full or that end a part. The caller empties them with ``take``."""
    seen: dict[str, Sequence[Region]] = {}
    part, batch = Region(""), RecordBatch(source, kept)
    n_before = 0  # records at position 0, which the VCF format allows for telomeres
    with as_text(source.path):
        for record in source.records(region):
            if record.POS < 1:
                n_before += 1
                continue
            if part.chrom != record.CHROM or not part.holds(record.POS):
                if len(batch):
                    yield part, batch
                if part.chrom != record.CHROM:
                    if record.CHROM in seen:
                        raise _scattered_chromosome(source, record)
                    other = next((name for name in seen if same_chrom(name, record.CHROM)), None)
                    if other is not None:
                        raise two_names(source.path, other, record.CHROM)
                    seen[record.CHROM] = parts_of(record.CHROM)
                following = next(one for one in seen[record.CHROM] if one.holds(record.POS))
                if following.start < part.start and following.chrom == part.chrom:
                    batch.add(record)  # raises the error of an unsorted record
                part, batch = following, RecordBatch(source, kept)
            batch.add(record)
            if len(batch) == size:
                yield part, batch
        if len(batch):
            yield part, batch
    if n_before:
        _LOG.warning("%s: %d records at position 0 (telomeres) are excluded", source.path, n_before)


def batch_size(source: Source, block_genotypes: int) -> int:
    """Records of a block of about ``block_genotypes`` genotypes."""
    return min(max(block_genotypes // len(source.samples), 1), BLOCK_RECORDS)


def several_chromosomes(path: Path, first: Region | str, second: Region | str) -> InputError:
    """The error of a file with several chromosomes, or several names of one, where one is expected."""
    names = [one.chrom if isinstance(one, Region) else one for one in (first, second)]
    if names[0] != names[1] and same_chrom(*names):
        return two_names(path, *names)
    return InputError(
        "several_chromosomes",
        f"the file holds several chromosomes ({first}, {second}, ...)",
        where=str(path),
        hint=f"give the one to read as region, such as {first}",
    )


def two_names(path: Path, first: str, second: str) -> InputError:
    """The error of records that give one chromosome two names."""
    return InputError(
        "chromosome_names",
        f"records of one chromosome have two names, {first} and {second}",
        where=str(path),
        hint="give them one name and sort them: bcftools annotate --rename-chrs FILE IN | bcftools sort",
    )


def _scattered_chromosome(source: Source, record: Record) -> InputError:
    """The error of a record whose chromosome had records before another chromosome's."""
    return InputError(
        "unsorted_records",
        f"records of chromosome {record.CHROM} follow another chromosome's: sort records by chromosome and position",
        where=f"{source.path}, record {record.CHROM}:{record.POS}",
        hint="sort the file: bcftools sort",
    )


def open_source(path: Path, trace: Trace | None = None) -> Source:
    """Opens a VCF, VCF.gz or BCF, or a VCF Zarr (folder or zip). A VCF's or BCF's records are noted in ``trace``.

    Raises InputError: file_not_found, empty, not_vcf, truncated, no_samples, duplicate_samples; MissingExtraError.
    """
    return ZarrRecords(path) if is_vcf_zarr(path) else VcfRecords(path, trace)


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


def nothing_read(path: Path, region: Region | None, chromosomes: Iterable[str]) -> InputError:
    """The error of a file, or of a region, without records."""
    where = str(path)
    if region is None:
        return InputError("empty", "the file has no records", where=where, hint="check the command that wrote it")
    present = list(chromosomes)
    if any(same_chrom(name, region.chrom) for name in present):
        return InputError("region_empty", f"no record lies in region {region}", where=where, hint="check its bounds")
    return InputError(
        "chromosome_missing",
        f"the file has no chromosome {region.chrom}; it holds {', '.join(present[:30]) or 'nothing'}",
        where=where,
        hint="give one of these chromosomes",
    )
