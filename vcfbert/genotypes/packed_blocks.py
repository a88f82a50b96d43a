"""Reads a file of phased genotypes in blocks of packed alleles, in a parser process."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.parsing.messages import REGION, SITES, Array, Numbers, Record, Texts, in_range
from vcfbert.genotypes.parsing.process import in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.plain_text import plain_sites
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.record_info import NO_ALT
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.sex_chromosomes import NO_PARS, build_of, is_autosome_number, is_x, regions_of_x
from vcfbert.genotypes.unknown_alleles import unknown_calls
from vcfbert.genotypes.vcf_reader import Progress, open_source, stream_parts
from vcfbert.genotypes.vcf_records import Source, VcfRecords
from vcfbert.kernels import Alleles


@dataclass(frozen=True)
class PackedBlock:
    """Consecutive sites of one panel; ``packed`` as in ``SiteBlocks.of``, others as in ``Panel``."""

    region: Region
    samples: tuple[str, ...]
    haploid: tuple[int, ...]
    sites: Sites
    packed: npt.NDArray[np.uint8]  # REF where the allele is unknown
    allele_count: npt.NDArray[np.int64]  # of known alleles
    # As of ``UnknownAlleles.add``: packed, without rows where all alleles are known; and [n_sites].
    unknown: npt.NDArray[np.uint8]
    unphased: npt.NDArray[np.int64]

    @classmethod
    def complete(
        cls, region: Region, samples: tuple[str, ...], haploid: tuple[int, ...], sites: Sites, packed: Alleles
    ) -> PackedBlock:
        """A block without unknown alleles."""
        unknown = np.empty((0, packed.shape[1]), np.uint8)
        unphased = np.zeros(len(sites), np.int64)
        return cls(region, samples, haploid, sites, packed, allele_counts(packed), unknown, unphased)


def packed_blocks(
    file: Path,
    *,
    region: Region | None = None,
    build: str | None = None,
    info: Sequence[str] = (),
    incomplete: bool = False,
    progress: Progress | None = None,
) -> Iterator[PackedBlock]:
    """Reads a file once, in blocks of bounded memory. A parser process does it (``genotypes.parsing``).

    ``incomplete``: whether alleles may be unknown. ``progress`` is called with the number of sites so far. Raises
    InputError as ``convert_panels`` does.
    """
    n_sites = 0
    for block in in_parser(parsed_blocks, file, region, build, tuple(info), incomplete, kinds=(_PACKED_BLOCK,)):
        n_sites += len(block.sites)
        if progress is not None:
            progress(n_sites)
        yield block


def _fits(block: PackedBlock) -> bool:
    n_haplotypes = 2 * len(block.samples) - len(block.haploid)
    return (
        block.packed.shape[1] == -(-n_haplotypes // 8)
        and all(0 <= sample < len(block.samples) for sample in block.haploid)
        and in_range(block.allele_count, 0, n_haplotypes)
        and len(block.unknown) in (0, len(block.sites))
        and in_range(block.unphased, 0, len(block.samples))
    )


_PACKED_BLOCK: Final = Record(
    PackedBlock,
    _fits,
    region=REGION,
    samples=Texts("sample", as_tuple=True),
    haploid=Numbers(),
    sites=SITES,
    packed=Array("uint8", "site", "byte"),
    allele_count=Array("int64", "site"),
    unknown=Array("uint8", "unknown site", "byte"),
    unphased=Array("int64", "site"),
)


def parsed_blocks(
    path: Path, trace: Trace, region: Region | None, build: str | None, info: Sequence[str], incomplete: bool
) -> Iterator[PackedBlock]:
    """The blocks of ``packed_blocks``, which has the arguments. Runs in a parser process.

    INFO of records with symbolic alleles is kept (``record_info.py``), and the fields ``info`` of all records. Records
    are read from the text of a VCF as far as they are plain (``plain_text.py``). htslib then parses the file
    from its start, so that all of its checks see all records.
    """
    source = open_source(path, trace)
    n_plain = 0
    if region is None and not info and isinstance(source, VcfRecords):
        n_plain, complete = yield from _plain_blocks(source)
        if complete:
            return
    blocks = stream_parts(source, partial(_ploidy_regions, source, build), region=region, symbolic=True, info=info)
    for part, block in checked(blocks, path, incomplete=incomplete):
        if n_plain >= len(block.sites):
            n_plain -= len(block.sites)
            continue
        yield _packed(part, block.take(np.arange(n_plain, len(block.sites))))
        n_plain = 0


def _packed(part: Region, block: Genotypes) -> PackedBlock:
    haploid = tuple(np.flatnonzero(block.haploid).tolist())
    unknown, unphased = unknown_calls(block)
    if not unknown.any():
        return PackedBlock.complete(part, block.samples, haploid, block.sites, np.packbits(haplotypes(block), axis=1))
    known = dataclasses.replace(block, alleles=np.where(unknown, 0, block.alleles).astype(np.int8))
    packed = np.packbits(haplotypes(known), axis=1)
    mask = dataclasses.replace(block, alleles=np.where(block.alleles == ABSENT, ABSENT, unknown).astype(np.int8))
    packed_mask = np.packbits(haplotypes(mask), axis=1)
    counts = allele_counts(packed)
    return PackedBlock(part, block.samples, haploid, block.sites, packed, counts, packed_mask, unphased)


def _plain_blocks(source: VcfRecords) -> Generator[PackedBlock, None, tuple[int, bool]]:
    """The plain records up to the first other one, or up to X. Returns their number and whether no others follow."""
    n_sites = 0
    blocks = plain_sites(source.file)
    while True:
        try:
            sites, packed = next(blocks)
        except StopIteration as end:
            return n_sites, bool(end.value)
        if is_x(sites.chrom):  # or an autosome 23 or 25, which is read as X is
            return n_sites, False
        n_sites += len(sites)
        yield PackedBlock.complete(Region(sites.chrom), source.samples, (), sites, packed)


def allele_counts(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.asarray(np.bitwise_count(packed).sum(axis=1, dtype=np.int64))


def _ploidy_regions(source: Source, build: str | None, chrom: str) -> Sequence[Region]:
    if not is_x(chrom) or build == NO_PARS:
        return (Region(chrom),)
    length = source.length_of(chrom)
    if is_autosome_number(chrom, length, build):
        return (Region(chrom),)
    return regions_of_x(chrom, build_of(length, build, str(source.path)))


def checked(
    blocks: Iterator[tuple[Region, Genotypes]], file: Path, *, incomplete: bool = False
) -> Iterator[tuple[Region, Genotypes]]:
    """The blocks without records that have no ALT.

    Raises InputError at a missing or an unphased heterozygous call, unless the panel may be ``incomplete``.
    """
    for region, block in blocks:
        if not incomplete:
            _refuse_unknown(block, file)
        kept = np.flatnonzero(block.sites.alt != NO_ALT)
        if len(kept) == len(block.sites):
            yield region, block
        elif len(kept):
            yield region, block.take(kept)


def _refuse_unknown(block: Genotypes, file: Path) -> None:
    _refuse(
        "panel_missing",
        "the panel has missing genotypes here",
        "remove such records (bcftools view -g ^miss), or let `vcfbert panel build` fill them",
        np.asarray((block.alleles == MISSING).any(axis=(1, 2))),
        block,
        file,
    )
    _refuse(
        "panel_unphased",
        "the panel has unphased heterozygous genotypes here",
        "phase it first, with SHAPEIT, Beagle or Eagle",
        np.asarray(~block.phased.all(axis=1)),
        block,
        file,
    )


def _refuse(code: str, what: str, hint: str, bad: npt.NDArray[np.bool_], block: Genotypes, file: Path) -> None:
    if bad.any():
        pos = block.sites.pos[int(np.flatnonzero(bad)[0])]
        raise InputError(code, what, where=f"{file}, record {block.sites.chrom}:{pos}", hint=hint)


def haplotypes(block: Genotypes) -> npt.NDArray[np.uint8]:
    """Alleles [n_sites, n_haplotypes]; a haploid sample has one haplotype."""
    flat = block.alleles.reshape(len(block.sites), -1).view(np.uint8)
    return flat[:, block.alleles[0].reshape(-1) != ABSENT] if block.haploid.any() else flat
