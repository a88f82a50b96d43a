"""The records of a VCF or BCF, all or those of a region, and the protocol of all sources of records."""

from __future__ import annotations

import logging
import os
import re
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import cyvcf2
import numpy as np
import numpy.typing as npt

from vcfbert.constants import MAX_POSITION
from vcfbert.errors import InputError
from vcfbert.genotypes.file_index import index_of
from vcfbert.genotypes.parsing.confinement import die_with_parent
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.plain_text import NUMBERED, PlainSites, plain_sites
from vcfbert.genotypes.record_faults import has_leading_mark, line_checker, parse_error, without_leading_marks
from vcfbert.genotypes.record_info import Info
from vcfbert.genotypes.regions import Region, names_of, same_chrom, same_name
from vcfbert.genotypes.vcf_file import VcfFile, inspect

# Chromosomes of records that the header lacks. htslib's time is the square of their number: a second for so many.
MAX_UNDECLARED = 10_000

_LOG = logging.getLogger(__name__)


class Calls(Protocol):
    """The calls of one record."""

    def array(self) -> npt.NDArray[np.int16]:
        """[n_samples, ploidy + 1]: allele numbers, and in the last column 1 where the call is phased.

        -1 is a missing allele. -2 fills a call of fewer alleles.
        """


class Record(Protocol):
    """One record, with the names of cyvcf2. POS is 1-based; ID is None if the record has none."""

    @property
    def CHROM(self) -> str: ...

    @property
    def POS(self) -> int: ...

    @property
    def ID(self) -> str | None: ...

    @property
    def REF(self) -> str: ...

    @property
    def ALT(self) -> Sequence[str]: ...

    @property
    def INFO(self) -> Info: ...

    @property
    def genotype(self) -> Calls:
        """The calls. Raises any exception if the record has no genotypes."""


class Source(Protocol):
    """A file of genotypes that passed its checks."""

    @property
    def path(self) -> Path: ...

    @property
    def samples(self) -> tuple[str, ...]:
        """The samples of the header, in its order."""

    def records(self, region: Region | None) -> Iterator[Record]:
        """All records in the file's order, or those that start in ``region``. Raises InputError('vcf_invalid')."""

    def chromosomes(self) -> dict[str, int]:
        """The number of records of each chromosome with records, in the file's order."""

    def length_of(self, chrom: str) -> int | None:
        """The chromosome's length in the header; None if the header lacks it."""

    def header(self) -> Sequence[str]:
        """The lines of the header that declare INFO fields and symbolic alleles, and perhaps others."""


class VcfRecords:
    """``Source`` over a VCF, VCF.gz or BCF. A region is read by the index if there is one that covers the file."""

    def __init__(self, path: Path, trace: Trace | None = None) -> None:
        """Notes each record in ``trace``. Raises InputError as ``inspect`` does."""
        self._trace = trace
        self._file = inspect(path)
        self._warned = False  # of an index that is not used
        self._marked = False  # calls begin with phase marks, which cyvcf2's htslib cannot parse
        # htslib would write its own messages to stderr, from another thread and without the file's name.
        cyvcf2.cyvcf2.set_htslib_log_level(0)

    @property
    def file(self) -> VcfFile:
        return self._file

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def samples(self) -> tuple[str, ...]:
        return self._file.samples

    def records(self, region: Region | None) -> Iterator[Record]:
        return self._noted(self._records(region))

    def _noted(self, records: Iterator[Record]) -> Iterator[Record]:
        if self._trace is None:
            yield from records
            return
        for record in records:
            yield record
            self._trace.note(record.CHROM, record.POS)

    def plain(self) -> Generator[PlainSites, None, bool]:
        """The records from the first on, as far as they are plain, with calls as ``NUMBERED``; see ``plain_sites``."""
        blocks = plain_sites(self._file, NUMBERED, threads=1)
        while True:
            try:
                block = next(blocks)
            except StopIteration as end:
                return bool(end.value)
            yield block
            if self._trace is not None:
                self._trace.note(block.sites.chrom, int(block.sites.pos[-1]), len(block.sites))

    def records_behind(self, n_plain: int) -> Iterator[Record]:
        """All records but the first, of which ``plain`` has given this number."""
        return self._noted(islice(self._records(None), n_plain, None))

    def _records(self, region: Region | None) -> Iterator[Record]:
        reader = self._open()
        try:
            declared = reader.seqnames
            names = None if region is None else self._indexed_names(declared)
            if region is not None and names is not None:
                records = _indexed(reader, self._file, names, region)
            else:
                if self._file.is_bcf:
                    check_bcf(self.path)
                records = _scanned(self._all(reader), set(declared), self._file, region)
            for record in records:
                yield record if record.start < MAX_POSITION else _far(record)
        finally:
            reader.close()

    def _all(self, reader: Any) -> Iterator[Any]:
        """All records in the file's order. ``reader``: of ``_open``."""
        n_read = 0
        if not self._marked:
            try:
                for record in reader:
                    n_read += 1
                    yield record
                return
            except Exception as error:  # cyvcf2 raises bare exceptions
                if not has_leading_mark(self._file, n_read):
                    raise parse_error(self._file, n_read) from error
                self._marked = True
        with _piped(without_leading_marks(self._file)) as records:
            try:
                for record in islice(records, n_read, None):
                    n_read += 1
                    yield record
            except Exception as error:
                raise parse_error(self._file, n_read) from error

    def _indexed_names(self, declared: Sequence[str]) -> list[str] | None:
        """The chromosomes that the file's index covers; None without an index that can be used."""
        if self._file.may_mark_phase_first:
            return None  # in an indexed query cyvcf2 takes a record that it cannot parse for the end
        index = index_of(self._file)
        if index is not None and index.fault is not None and not self._warned:
            self._warned = True
            _LOG.warning(
                "%s: the index is not used, because it %s. The file is read from its start. `bcftools index -f` writes "
                "the index again",
                index.path,
                index.fault,
            )
        return None if index is None or index.fault is not None else index.names(declared)

    def chromosomes(self) -> dict[str, int]:
        names: dict[str, int] = {}
        with as_text(self.path):
            for record in self._all(self._open()):
                names[record.CHROM] = names.get(record.CHROM, 0) + 1
        return names

    def length_of(self, chrom: str) -> int | None:
        lengths: dict[str, int] = {}
        for line in self.header():
            name = re.match(r"##contig=<(?:.*,)?ID=([^,>]+)", line)
            length = re.search(r"[<,]length=(\d+)", line)
            if name and length:
                lengths.setdefault(name[1], int(length[1]))
        return next((lengths[name] for name in names_of(chrom, lengths)), None)

    def header(self) -> Sequence[str]:
        return str(self._open().raw_header).splitlines()

    def _open(self) -> Any:
        try:
            return cyvcf2.VCF(str(self.path), lazy=True, threads=2)
        except Exception as error:  # cyvcf2 raises bare exceptions
            raise invalid(self.path, f"its header cannot be parsed ({error})") from error


class _FarRecord(NamedTuple):
    """A record at a position beyond those of the format, which no reader uses."""

    CHROM: str
    POS: int
    ID: str | None
    REF: str
    ALT: Sequence[str]


def _far(record: Any) -> Record:
    """``record`` with its position, of which cyvcf2's POS is the last 32 bits."""
    return cast(Record, _FarRecord(record.CHROM, record.start + 1, record.ID, record.REF, record.ALT))


@contextmanager
def _piped(lines: Iterable[bytes]) -> Iterator[Any]:
    """Reads the ``lines`` of a VCF through a pipe.

    A process writes them, and no thread: cyvcf2 holds Python's lock while it waits for more.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            die_with_parent()
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pipe.writelines(lines)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with closing(cyvcf2.VCF(reader, lazy=True)) as records:  # which closes its end
            yield records
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def as_text(path: Path) -> Iterator[None]:
    """Raises InputError('vcf_invalid') where bytes are not text: cyvcf2 decodes names, alleles and IDs on access."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_text(path) from error


def not_text(path: Path) -> InputError:
    """The error of bytes that are not text."""
    return invalid(path, "a record has bytes that are not text")


def invalid(path: Path, what: str, where: str | None = None) -> InputError:
    """The error of a record or header that cannot be used."""
    return InputError(
        "vcf_invalid", what, where=where or str(path), hint="`bcftools view` on the file shows the problem"
    )


def _indexed(reader: Any, file: VcfFile, names: Sequence[str], region: Region) -> Iterator[Any]:
    stop = "" if region.stop is None else region.stop
    for name in names_of(region.chrom, names):
        n_expected = _count_undamaged(file, name, region)
        records = reader(f"{name}:{region.start}-{stop}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cyvcf2 warns of an empty region, for which nothing_read is the error
            first = next(records, None)
        if first is not None:
            n_read = 0
            for record in chain([first], records):
                n_read += 1
                if _holds(region, record.POS):  # the index also finds a deletion that starts before the region
                    yield record
            if n_read < n_expected:  # cyvcf2 takes a record that it cannot parse for the end of an indexed query
                raise parse_error(file, n_read=0)


def check_bcf(path: Path) -> None:
    """Reads a BCF with pysam. Raises InputError('vcf_invalid') where the number fields of a record hold text.

    cyvcf2 must not see such a record: htslib would end the process, and a service with it.
    """
    with _pysam(path) as source:
        _check_numbers(path, source)


def _count_undamaged(file: VcfFile, name: str, region: Region) -> int:
    """The number of records in the region, which is read with pysam first: cyvcf2 takes damaged data for its end."""
    with _pysam(file.path) as source:
        try:
            records = source.fetch(name, region.start - 1, region.stop)
        except ValueError:  # the index has no records of this chromosome, so none will be read
            return 0
        if file.is_bcf:
            return _check_numbers(file.path, records)
        return sum(1 for _ in records)


@contextmanager
def _pysam(path: Path) -> Iterator[Any]:
    import pysam  # only here, because its import takes longer than reading an array file of one sample

    verbosity = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as source:
            yield source
    except (OSError, ValueError) as error:
        raise parse_error(inspect(path), n_read=0) from error
    finally:
        pysam.set_verbosity(verbosity)


def _parse_checker(path: Path) -> Callable[[int], None]:
    """As ``line_checker``, by pysam, which parses all records up to the one that is checked."""
    parsed = _parsed(path)
    return lambda step: next(islice(parsed, step - 1, None), None)


def _parsed(path: Path) -> Iterator[None]:
    """Yields after each record that pysam parses. Raises InputError('vcf_invalid') where it cannot."""
    with _pysam(path) as source:
        records = iter(source)
        while True:
            with suppress(ValueError):  # of a tag that the header lacks, in a record that is parsed
                if next(records, None) is None:
                    return
            yield


def _check_numbers(path: Path, records: Any) -> int:
    """The number of ``records``. Raises InputError('vcf_invalid') where number fields hold text."""
    count = 0
    for record in records:
        count += 1
        for name, field in record.format.items():
            if name == "GT":
                text = record.samples[0].allele_indices == ()  # pysam gives () for any type but integers
            elif field.type in ("Integer", "Float"):
                value = record.samples[0][name]
                text = isinstance(value[0] if isinstance(value, tuple) else value, str)
            else:
                continue
            if text:
                raise invalid(path, f"{name} holds no numbers", f"{path}, record {record.chrom}:{record.pos}")
    return count


def _scanned(records: Iterator[Any], declared: set[str], file: VcfFile, region: Region | None) -> Iterator[Any]:
    """The ``records`` that start in ``region``, or at position 0 if it begins with the chromosome."""
    chrom, inside = None, False
    has_name = region is not None and any(same_name(name, region.chrom) for name in declared)
    check = line_checker(file) if file.container == "gzip" else _parse_checker(file.path)  # pysam cannot open gzip
    behind, most = 0, len(declared) + MAX_UNDECLARED  # behind: records read by cyvcf2 since
    for record in records:
        behind += 1
        name = record.CHROM
        if name != chrom:
            chrom = name
            if not name:
                raise invalid(file.path, "a record has no CHROM", f"{file.path}, record :{record.POS}")
            if name not in declared:
                # cyvcf2 gives the first record of such a chromosome even if htslib could not parse it. To read its
                # fields would end the process. htslib then declares the chromosome.
                check(behind)
                declared.add(name)
                behind = 0
                if len(declared) > most:
                    raise _too_many_undeclared(file.path)
            inside = region is None or (same_name if has_name else same_chrom)(chrom, region.chrom)
        if inside and (region is None or _holds(region, record.POS)):
            yield record


def _holds(region: Region, pos: int) -> bool:
    return region.holds(pos) or (pos < 1 and region.start == 1)


def _too_many_undeclared(path: Path) -> InputError:
    return InputError(
        "too_many_undeclared",
        f"more than {MAX_UNDECLARED} chromosomes of records are not in the header",
        where=str(path),
        hint="declare them: `bcftools reheader --fai`",
    )
