"""Reads the genotypes of several regions of a file in one pass over its records."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.constants import ABSENT, MAX_POSITION, MISSING
from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes.excluded_records import EXCLUDED_TABLE, ExcludedRecord, ExcludedRecords, ExcludedTable
from vcfbert.genotypes.formats.open_target import open_target
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.parsing.messages import ERROR, NUMBER, SITES, Array, Counts, Record, Texts, check, in_range
from vcfbert.genotypes.parsing.process import Cancelled, Parser, in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.record_batch import Genotypes, RecordBatch
from vcfbert.genotypes.record_info import end_of_record, is_reference_block
from vcfbert.genotypes.regions import Region, same_name
from vcfbert.genotypes.sex_chromosomes import has_chrom
from vcfbert.genotypes.vcf_reader import (
    BLOCK_GENOTYPES,
    batch_size,
    join_sites,
    nothing_read,
    several_chromosomes,
)
from vcfbert.genotypes.vcf_records import Record as VcfRecord
from vcfbert.genotypes.vcf_records import Source, VcfRecords, as_text, not_text
from vcfbert.genotypes.vcf_zarr import ZarrRecords

Positions = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Genotype = npt.NDArray[np.int16]


class RegionsRead(NamedTuple):
    """What ``read_regions`` returns."""

    samples: tuple[str, ...]
    genotypes: Iterator[Genotypes | InputError]  # of each region
    counts: dict[str, int]  # records of each chromosome
    excluded: dict[str, int]  # records that cannot be used, by reason (``excluded_records.REASONS``)
    listed: list[ExcludedRecord]  # the first of them


def read_regions(
    path: Path,
    regions: Sequence[Region],
    positions: Sequence[Positions] | None = None,
    *,
    strict: bool = True,
    parser: Parser | None = None,
    cancelled: Cancelled | None = None,
) -> RegionsRead:
    """Reads the genotypes of ``regions`` in one pass; also returns the number of records of each chromosome.

    ``positions`` has an ascending array [m] for each region. Genotypes at other positions are checked but not kept:
    their sites are returned with missing calls. Without ``positions`` all genotypes are kept. The iterator assembles
    one region at a time and then releases its memory. For a region that cannot be read the iterator gives the
    InputError that ``read_genotypes`` would raise. If not ``strict``, records that cannot be used are excluded and
    counted instead, and calls of symbolic alleles are missing. The file is parsed in another process; ``parser`` and
    ``cancelled`` as in ``in_parser``.

    No index is used, because every record is counted. Of a VCF Zarr the records are counted without their genotypes,
    and each region then reads its own chunks. Raises those of ``open_target`` and InputError: vcf_invalid if a record
    inside or outside of the regions cannot be parsed, file_unreadable if the parser dies.
    """
    samples: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    excluded = ExcludedRecords().table()
    gathered = [_Gathered(region) for region in regions]
    for message in in_parser(
        region_parts, path, regions, positions, strict, kinds=_MESSAGES, parser=parser, cancelled=cancelled
    ):
        if isinstance(message, FileSamples):
            samples = message.samples
        elif isinstance(message, RecordCounts):
            counts, excluded = message.counts, message.excluded
        else:
            check(0 <= message.region < len(gathered))
            gathered[message.region].take(message, len(samples))
    return RegionsRead(samples, _results(path, samples, gathered, counts), counts, excluded.counts, excluded.records())


def _results(
    path: Path, samples: tuple[str, ...], gathered: list[_Gathered], counts: dict[str, int]
) -> Iterator[Genotypes | InputError]:
    gathered.reverse()
    while gathered:
        yield gathered.pop().result(path, samples, counts)


class FileSamples(NamedTuple):
    """The first message of ``region_parts``."""

    samples: tuple[str, ...]


class RegionPart(NamedTuple):
    """Consecutive sites of a region, of k of which the genotypes are kept."""

    region: int  # its number
    sites: Sites
    kept: Flags  # [n_sites]
    alleles: npt.NDArray[np.int8]  # [k, n_samples, 2], as in ``Genotypes``
    phased: Flags  # [k, n_samples]


class RegionEnd(NamedTuple):
    """The last message of a region, or the error of the record that it refused."""

    region: int
    haploid: Flags  # [n_samples]
    error: VcfbertError | None = None


class RecordCounts(NamedTuple):
    """The last message: the number of records of each chromosome, and the excluded records."""

    counts: dict[str, int]
    excluded: ExcludedTable


def _fits(part: RegionPart) -> bool:
    return int(part.kept.sum()) == len(part.alleles) and in_range(part.alleles, ABSENT, 1)


_MESSAGES: Final = (
    Record(FileSamples, samples=Texts("sample", as_tuple=True)),
    Record(
        RegionPart,
        _fits,
        region=NUMBER,
        sites=SITES,
        kept=Array("bool", "site"),
        alleles=Array("int8", "kept", "sample", 2),
        phased=Array("bool", "kept", "sample"),
    ),
    Record(RegionEnd, region=NUMBER, haploid=Array("bool", "sample"), error=ERROR),
    Record(RecordCounts, counts=Counts(), excluded=EXCLUDED_TABLE),
)


@dataclass
class _Gathered:
    """The parts of one region."""

    region: Region
    parts: list[RegionPart] = field(default_factory=list)
    haploid: Flags | None = None
    error: InputError | None = None

    def take(self, message: RegionPart | RegionEnd, n_samples: int) -> None:
        if isinstance(message, RegionEnd):
            check(
                len(message.haploid) == n_samples and (message.error is None or isinstance(message.error, InputError))
            )
            self.haploid = message.haploid
            if isinstance(message.error, InputError):
                self.error = message.error
                self.parts.clear()
        else:
            pos = message.sites.pos
            last = self.parts[-1].sites.pos[-1] if self.parts else 0
            check(message.alleles.shape[1] == n_samples and len(pos) > 0 and pos[0] >= last)
            check(bool((np.diff(pos) >= 0).all()))
            self.parts.append(message)

    def result(self, path: Path, samples: tuple[str, ...], counts: dict[str, int]) -> Genotypes | InputError:
        """The genotypes, or the reason for refusal. ``counts``: the records of each chromosome of the file."""
        if self.error is not None:
            return self.error
        if not self.parts:
            return nothing_read(path, self.region, counts)
        check(self.haploid is not None)
        sites = join_sites([part.sites for part in self.parts])
        rows = np.flatnonzero(np.concatenate([part.kept for part in self.parts]))
        alleles = np.full((len(sites), len(samples), 2), MISSING, dtype=np.int8)
        phased = np.ones(alleles.shape[:2], dtype=bool)
        done = 0
        for part in self.parts:
            some = rows[done : done + len(part.alleles)]
            alleles[some], phased[some] = part.alleles, part.phased
            done += len(some)
        # A haploid sample whose first calls are all missing is read as diploid until its first known call.
        alleles[:, self.haploid, 1] = ABSENT
        phased[:, self.haploid] = True
        return Genotypes(samples, sites, alleles, phased)


def region_parts(
    path: Path,
    trace: Trace | None,
    regions: Sequence[Region],
    positions: Sequence[Positions] | None,
    strict: bool,
) -> Iterator[Any]:
    """The messages behind ``read_regions``, which has the arguments. Runs in a parser process."""
    source = open_target(path, trace, regions)
    yield FileSamples(source.samples)
    sent: deque[RegionPart | RegionEnd] = deque()
    excluded = ExcludedRecords()
    counted = None if strict else excluded
    collectors = [
        _Collector(source, region, number, None if positions is None else positions[number], sent, counted)
        for number, region in enumerate(regions)
    ]
    if isinstance(source, ZarrRecords):
        counts = source.chromosomes()
        for collector in collectors:
            yield from collector.add_all(source.records(collector.region))
    else:
        counts = {}
        yield from _distribute(source, collectors, sent, counts, excluded)
    for collector in collectors:
        collector.end()
        yield from _emptied(sent)
    yield RecordCounts(counts, excluded.table())


def _emptied(sent: deque[Any]) -> Iterator[Any]:
    while sent:
        yield sent.popleft()


def _distribute(
    source: Source,
    collectors: Sequence[_Collector],
    sent: deque[Any],
    counts: dict[str, int],
    excluded: ExcludedRecords,
) -> Iterator[Any]:
    """Passes each record to the collectors of its region, gives what they ``sent``, and fills the counts.

    A record at a position of no region, such as the telomeres' 0, is ``excluded``.
    """
    route = _Route(collectors)
    records = source.records(None)
    if isinstance(source, VcfRecords):
        n_plain, complete = yield from _distribute_plain(source, route, sent, counts)
        if complete:
            return
        if n_plain:
            records = source.records_behind(n_plain)
    with as_text(source.path):
        for record in records:
            name = record.CHROM
            counts[name] = counts.get(name, 0) + 1
            here = route.of(name)
            if here:
                pos = record.POS
                if not 0 < pos <= MAX_POSITION:
                    excluded.add("position", name, pos, record.ID, record.REF, record.ALT)
                    continue
                for collector in here:
                    if collector.region.holds(pos):
                        collector.add(record)
            if sent:
                yield from _emptied(sent)


def _distribute_plain(
    source: VcfRecords, route: _Route, sent: deque[Any], counts: dict[str, int]
) -> Generator[Any, None, tuple[int, bool]]:
    """``_distribute`` of the plain records. Returns their number, and whether these are all records of the file."""
    n_plain, blocks = 0, source.plain()
    while True:
        try:
            sites, numbers = next(blocks)
        except StopIteration as end:
            return n_plain, bool(end.value)
        n_plain += len(sites)
        counts[sites.chrom] = counts.get(sites.chrom, 0) + len(sites)
        for collector in route.of(sites.chrom):
            collector.add_plain(sites, numbers)
            yield from _emptied(sent)


class _Route:
    """Finds the collectors of each chromosome, and lets them decode their records where it ends."""

    def __init__(self, collectors: Sequence[_Collector]) -> None:
        self._collectors = collectors
        self._chrom: str | None = None
        self._here = list(collectors)

    def of(self, chrom: str) -> Sequence[_Collector]:
        """The collectors of the next record's chromosome."""
        if chrom != self._chrom:
            for collector in self._here:
                collector.flush()
            self._chrom, self._here = chrom, _with_chrom(self._collectors, chrom)
        return self._here


def _with_chrom(collectors: Sequence[_Collector], name: str) -> list[_Collector]:
    exact = [one for one in collectors if same_name(name, one.region.chrom)]
    return exact or [one for one in collectors if has_chrom(one.region, name)]


class _Collector:
    """Collects the genotypes of one region until it refuses a record. Appends its messages to ``sent``."""

    def __init__(
        self,
        source: Source,
        region: Region,
        number: int,
        positions: Positions | None,
        sent: deque[Any],
        excluded: ExcludedRecords | None,
    ) -> None:
        self.region = region
        self._source = source
        self._number = number
        self._positions = positions
        self._sent = sent
        self._size = batch_size(source, BLOCK_GENOTYPES)
        self._batch = RecordBatch(source, None, excluded=excluded)
        self._covered: deque[tuple[int, Genotype]] = deque()  # positions within a reference block, and its calls
        self._ended = False

    def add_all(self, records: Iterable[VcfRecord]) -> Iterator[Any]:
        try:
            for record in records:
                self.add(record)
                yield from _emptied(self._sent)
        except InputError as error:
            self._end(error)
        self.flush()

    def add(self, record: VcfRecord) -> None:
        if self._ended:
            return
        try:
            first = self._batch.chrom
            if first and first != record.CHROM:
                self._take()
                raise several_chromosomes(self._source.path, first, record.CHROM)
            self._add(record)
        except UnicodeDecodeError:  # caught without a context manager, whose entry took a fifth of the time
            self._end(not_text(self._source.path))
        except InputError as error:
            self._end(error)
        if len(self._batch) == self._size:
            self.flush()

    def add_plain(self, sites: Sites, numbers: Genotype) -> None:
        """As ``add``, of the records of ``sites`` that lie in the region."""
        stop = self.region.stop or MAX_POSITION
        place, end = np.searchsorted(sites.pos, [self.region.start, stop + 1]).tolist()
        first = self._batch.chrom
        if place < end and first and first != sites.chrom:
            self.flush()
            self._end(several_chromosomes(self._source.path, first, sites.chrom))
        while place < end and not self._ended:
            some = slice(place, min(place + self._size - len(self._batch), end))
            self._batch.add_plain(sites.take(some), numbers[some])
            if len(self._batch) == self._size:
                self.flush()
            place = some.stop

    def _add(self, record: VcfRecord) -> None:
        """Adds a record, or of a reference block the ``positions`` that it covers."""
        pos = record.POS
        self._add_covered(pos)
        if self._positions is None or self._batch.excluded is None or not is_reference_block(record):
            if self._covered and self._covered[0][0] == pos:  # the record's own calls are used
                self._covered.popleft()
            self._batch.add(record)
            return
        stop = min(end_of_record(record), self.region.stop or MAX_POSITION)
        first = np.searchsorted(self._positions, pos, side="left")
        last = np.searchsorted(self._positions, stop, side="right")
        inside = np.unique(self._positions[first:last]).tolist()
        if inside and inside[0] == pos:
            self._batch.add(record)
            inside.pop(0)
        calls = self._batch.calls(record) if inside else None
        if calls is not None:
            later = self._covered[-1][0] if self._covered else 0
            self._covered += [(place, calls) for place in inside if place > later]

    def _add_covered(self, before: int) -> None:
        """Adds the covered positions before a position."""
        while self._covered and self._covered[0][0] < before:
            self._batch.add_reference(*self._covered.popleft())

    def flush(self) -> None:
        """Decodes the collected records, which take three times the memory of their genotypes."""
        if not self._ended:
            try:
                self._take()
            except InputError as error:
                self._end(error)

    def end(self) -> None:
        """Sends what is left, and that nothing follows."""
        if not self._ended:
            self._add_covered(MAX_POSITION + 1)
        self.flush()
        self._end(None)

    def _take(self) -> None:
        if not len(self._batch):
            return
        block = self._batch.take()
        if self._positions is None:
            kept = np.ones(len(block.sites), dtype=bool)
        else:
            pos, wanted = block.sites.pos, self._positions
            kept = np.searchsorted(wanted, pos, side="right") > np.searchsorted(wanted, pos, side="left")
        self._sent.append(RegionPart(self._number, block.sites, kept, block.alleles[kept], block.phased[kept]))

    def _end(self, error: InputError | None) -> None:
        if not self._ended:
            self._ended = True
            self._sent.append(RegionEnd(self._number, self._batch.haploid_at_end, error))
