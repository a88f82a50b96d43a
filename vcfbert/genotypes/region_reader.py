"""Reads the genotypes of several regions of a file in one pass over its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region, same_chrom
from vcfbert.genotypes.vcf_reader import (
    BLOCK_GENOTYPES,
    Genotypes,
    RecordBatch,
    batch_size,
    join_sites,
    nothing_read,
    several_chromosomes,
)
from vcfbert.genotypes.vcf_records import Record, Source, as_text, not_text
from vcfbert.genotypes.vcf_zarr import ZarrRecords

Positions = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def read_regions(
    source: Source, regions: Sequence[Region], positions: Sequence[Positions] | None = None
) -> tuple[Iterator[Genotypes | InputError], dict[str, int]]:
    """Reads the genotypes of ``regions`` in one pass; also returns the number of records of each chromosome.

    ``positions`` has an ascending array [m] for each region. Genotypes at other positions are checked but not kept:
    their sites are returned with missing calls. Without ``positions`` all genotypes are kept. The iterator assembles
    one region at a time and then releases its memory. For a region that cannot be read the iterator gives the
    InputError that ``read_genotypes`` would raise.

    No index is used, because every record is counted. Of a VCF Zarr the records are counted without their genotypes,
    and each region then reads its own chunks. Raises InputError('vcf_invalid') if a record inside or outside of the
    regions cannot be parsed.
    """
    collectors = [
        _Collector(source, region, None if positions is None else positions[number])
        for number, region in enumerate(regions)
    ]
    if isinstance(source, ZarrRecords):
        counts = source.chromosomes()
        for collector in collectors:
            collector.add_all(source.records(collector.region))
    else:
        counts = _distribute(source, collectors)
    return _results(collectors, counts), counts


def _results(collectors: list[_Collector], counts: dict[str, int]) -> Iterator[Genotypes | InputError]:
    collectors.reverse()
    while collectors:
        yield collectors.pop().result(counts)


def _distribute(source: Source, collectors: Sequence[_Collector]) -> dict[str, int]:
    """Passes each record to the collectors of its region; returns the number of records of each chromosome."""
    counts: dict[str, int] = {}
    chrom, here = None, list(collectors)
    with as_text(source.path):
        for record in source.records(None):
            name = record.CHROM
            counts[name] = counts.get(name, 0) + 1
            if name != chrom:
                for collector in here:
                    collector.flush()
                chrom, here = name, [one for one in collectors if same_chrom(name, one.region.chrom)]
            if here:
                pos = record.POS
                for collector in here:
                    if collector.region.holds(pos):
                        collector.add(record)
    return counts


class _Collector:
    """Collects the genotypes of one region until it refuses a record."""

    def __init__(self, source: Source, region: Region, positions: Positions | None) -> None:
        self.region = region
        self._source = source
        self._positions = positions
        self._size = batch_size(source, BLOCK_GENOTYPES)
        self._batch = RecordBatch(source, symbolic=False)
        self._blocks: list[Genotypes] = []  # all sites, and the genotypes of kept sites
        self._kept: list[Flags] = []  # of each block, [n_sites]: whether the genotypes are kept
        self._error: InputError | None = None

    def add_all(self, records: Iterable[Record]) -> None:
        try:
            for record in records:
                self.add(record)
        except InputError as error:
            self._error = self._error or error
        self.flush()

    def add(self, record: Record) -> None:
        if self._error is not None:
            return
        try:
            first = self._batch.chrom
            if first and first != record.CHROM:
                self._take()
                raise several_chromosomes(self._source.path, first, record.CHROM)
            self._batch.add(record)
        except UnicodeDecodeError:  # caught without a context manager, whose entry took a fifth of the time
            self._refuse(not_text(self._source.path))
        except InputError as error:
            self._refuse(error)
        if len(self._batch) == self._size:
            self.flush()

    def flush(self) -> None:
        """Decodes the collected records, which take three times the memory of their genotypes."""
        if self._error is None:
            try:
                self._take()
            except InputError as error:
                self._refuse(error)

    def result(self, counts: dict[str, int]) -> Genotypes | InputError:
        """The genotypes, or the reason for refusal. ``counts``: the records of each chromosome of the file."""
        self.flush()
        if self._error is not None:
            return self._error
        if not self._blocks:
            return nothing_read(self._source, self.region, counts)
        return self._whole()

    def _take(self) -> None:
        if not len(self._batch):
            return
        block = self._batch.take()
        if self._positions is None:
            kept = np.ones(len(block.sites), dtype=bool)
        else:
            pos, wanted = block.sites.pos, self._positions
            kept = np.searchsorted(wanted, pos, side="right") > np.searchsorted(wanted, pos, side="left")
            block = Genotypes(block.samples, block.sites, block.alleles[kept], block.phased[kept])
        self._blocks.append(block)
        self._kept.append(kept)

    def _refuse(self, error: InputError) -> None:
        self._error = error
        self._blocks.clear()
        self._kept.clear()

    def _whole(self) -> Genotypes:
        sites = join_sites([block.sites for block in self._blocks])
        rows = np.flatnonzero(np.concatenate(self._kept))
        alleles = np.full((len(sites), len(self._source.samples), 2), MISSING, dtype=np.int8)
        phased = np.ones(alleles.shape[:2], dtype=bool)
        done = 0
        for block in self._blocks:
            some = rows[done : done + len(block.alleles)]
            alleles[some], phased[some] = block.alleles, block.phased
            done += len(some)
        # A haploid sample whose first calls are all missing is read as diploid until its first known call.
        alleles[:, self._batch.haploid, 1] = ABSENT
        phased[:, self._batch.haploid] = True
        return Genotypes(self._source.samples, sites, alleles, phased)
