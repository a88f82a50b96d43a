"""Reading the genotypes of several regions of a file in one pass over its records."""

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
from vcfbert.genotypes.vcf_records import Record, Source, as_text
from vcfbert.genotypes.vcf_zarr import ZarrRecords

Positions = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def read_regions(
    source: Source, regions: Sequence[Region], positions: Sequence[Positions] | None = None
) -> tuple[Iterator[Genotypes | InputError], dict[str, int]]:
    """The genotypes of each of ``regions``, and the number of records of each chromosome, in one pass over the data.

    ``positions``: for each region an array [m]. Genotypes at other positions are checked but not kept, and come back
    as missing; their sites come back all the same. Without ``positions`` all genotypes are kept.
    The genotypes of a region are put together when the iterator reaches it, and the reader then forgets them.
    A region that cannot be read gives its InputError, the one that ``read_genotypes`` raises.
    An index is not used, because every record is counted. A VCF Zarr is counted without its genotypes, and each
    region then reads its own chunks. Raises InputError('vcf_invalid') where a record cannot be parsed, in any region
    or in none.
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
    """Gives each record to the collectors of its region; returns the number of records of each chromosome."""
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
    """Collects the genotypes of one region, up to the first record that it refuses."""

    def __init__(self, source: Source, region: Region, positions: Positions | None) -> None:
        self.region = region
        self._source = source
        self._positions = positions
        self._size = batch_size(source, BLOCK_GENOTYPES)
        self._batch = RecordBatch(source, symbolic=False)
        self._blocks: list[Genotypes] = []  # all sites of consecutive records, and the genotypes at kept ones
        self._kept: list[Flags] = []  # of each block [n_sites]: whether its genotypes are kept
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
            with as_text(self._source.path):
                first = self._batch.chrom
                if first and first != record.CHROM:
                    self._take()
                    raise several_chromosomes(self._source.path, first, record.CHROM)
                self._batch.add(record)
        except InputError as error:
            self._refuse(error)
        if len(self._batch) == self._size:
            self.flush()

    def flush(self) -> None:
        """Decodes the records at hand, which take three times the memory of their genotypes."""
        if self._error is None:
            try:
                self._take()
            except InputError as error:
                self._refuse(error)

    def result(self, counts: dict[str, int]) -> Genotypes | InputError:
        """``counts``: the records of each chromosome of the file."""
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
            kept = np.isin(block.sites.pos, self._positions)
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
        # The first calls of a haploid sample may all be missing, and are then read as diploid ones.
        alleles[:, self._batch.haploid, 1] = ABSENT
        phased[:, self._batch.haploid] = True
        return Genotypes(self._source.samples, sites, alleles, phased)
