"""Reads genotypes of a VCF, BCF or VCF Zarr, whole or in blocks of bounded memory; see ``record_batch.py``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from vcfbert.constants import ABSENT, MAX_POSITION
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.parsing import messages as parsed
from vcfbert.genotypes.parsing.messages import in_range
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.record_batch import Genotypes, RecordBatch
from vcfbert.genotypes.record_info import KeptFields, join_info
from vcfbert.genotypes.regions import Region, canonical_chrom, same_chrom
from vcfbert.genotypes.sex_chromosomes import Build, has_chrom, is_x, regions_of_x
from vcfbert.genotypes.vcf_records import Record, Source, VcfRecords, as_text, invalid
from vcfbert.genotypes.vcf_zarr import ZarrRecords, is_vcf_zarr

# Maximum number of genotypes (records x samples) of a block. Decoding takes 6 bytes per genotype.
BLOCK_GENOTYPES = 4_000_000
BLOCK_RECORDS = 4096

_LOG = logging.getLogger(__name__)

Progress = Callable[[int], None]


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
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("pos", "ref", "alt", "id", "continues")
    }
    return Sites(parts[0].chrom, **columns, info=join_info([(part.info, len(part)) for part in parts]))


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
    named: dict[str, list[str]] = {}  # the names seen, by what all names of one chromosome have in common
    part, batch = Region(""), RecordBatch(source, kept)
    n_before = 0  # records at position 0, which the VCF format allows for telomeres
    with as_text(source.path):
        for record in source.records(region):
            if record.POS < 1:
                n_before += 1
                continue
            if record.POS > MAX_POSITION:
                raise beyond_last_position(source.path, record)
            if part.chrom != record.CHROM or not part.holds(record.POS):
                if len(batch):
                    yield part, batch
                if part.chrom != record.CHROM:
                    if record.CHROM in seen:
                        raise _scattered_chromosome(source, record)
                    alike = named.setdefault(canonical_chrom(record.CHROM), [])
                    other = next((name for name in alike if has_chrom(seen[name][0], record.CHROM)), None)
                    if other is not None:
                        raise two_names(source.path, other, record.CHROM)
                    alike.append(record.CHROM)
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


def beyond_last_position(path: Path, record: Record) -> InputError:
    """The error of a record at a position that no VCF can have."""
    what = f"POS is {record.POS}, and positions end at {MAX_POSITION}"
    return invalid(path, what, f"{path}, record {record.CHROM}:{record.POS}")


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
