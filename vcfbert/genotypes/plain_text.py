"""Reads plain records of a VCF from its text, many times faster than htslib's parser.

A plain record has one ALT of letters and calls of GT alone. In a panel (``PACKED``) each call is ``0|0``, ``0|1``,
``1|0`` or ``1|1``. In a target (``NUMBERED``) alleles may be missing and calls unphased. Most files consist of such
records. Nothing here raises an error for a file: reading ends before the first record that is not plain, out of order,
or damaged. The caller reads it by htslib (``vcf_reader.py``), which supports or refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.bgzf import read_text
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.vcf_file import VcfFile
from vcfbert.kernels import Alleles, Indices, compiled

_TEXT_BYTES: Final = 1 << 22  # of an uncompressed file, read at once
_CALL_BYTES: Final = 4
_MIN_COLUMNS: Final = 20  # bytes of a plain record before its calls
_MAX_COLUMNS: Final = 1 << 22
_COLUMNS: Final = (
    rb"(?!#)([!-~]+)\t([1-9][0-9]{0,8})\t([!-~]+)\t([A-Za-z]+)\t([A-Za-z]+)\t([.0-9]+)\t([!-~]+)\t([!-~]+)\t(GT)\t"
)
_PHASED_RECORD: Final = re.compile(_COLUMNS + rb"((?:[01]\|[01][\t\n])+)")
_RECORD: Final = re.compile(_COLUMNS + rb"((?:[01.][|/][01.][\t\n])+)")

Numbered = npt.NDArray[np.int16]


class PlainSites(NamedTuple):
    """Consecutive biallelic sites, and their calls as ``CallFormat`` says."""

    sites: Sites
    calls: npt.NDArray[Any]


class CallFormat(NamedTuple):
    """How calls are read: the kernel, and the shape and type of those of one record of n samples."""

    kernel: Callable[[Alleles, int, int, Indices, Any], int]
    shape: Callable[[int], tuple[int, ...]]
    dtype: type[np.generic]


def plain_sites(
    file: VcfFile, calls: CallFormat | None = None, *, threads: int = 2
) -> Generator[PlainSites, None, bool]:
    """The plain records from the first on, in blocks of one chromosome. ``calls``: ``PACKED`` if None.

    ``threads`` decompress the file; a single one is the caller's, which is faster for a small file. Returns whether
    these are all records of the file. A chromosome's records are given as far as they are sorted, and no two of them
    have the same position and alleles.
    """
    if file.is_bcf or file.container == "gzip":
        return False
    order = _Order()
    try:
        for records, rows in _plain_records(file, calls or PACKED, threads):
            for sites, some in order.blocks(records):
                yield PlainSites(sites, rows[some])
            if order.broken:
                return False
    except (_NotPlain, InputError):  # a block of the file is damaged
        return False
    return order.chrom != ""


class _NotPlain(Exception):
    """The next record is not plain."""


class _Record(NamedTuple):
    chrom: str
    pos: int
    id: str
    ref: str
    alt: str


class _Order:
    """The place in the file, to which the next records must fit."""

    def __init__(self) -> None:
        self.chrom = ""
        self.broken = False  # whether a record did not fit
        self._earlier: set[str] = set()  # chromosomes
        self._pos = 0
        self._alleles: set[tuple[str, str]] = set()  # of the records at this position

    def blocks(self, records: list[_Record]) -> Iterator[tuple[Sites, slice]]:
        """The ``records`` by chromosome, up to the first that does not fit, with their places."""
        start = 0
        for place, record in enumerate(records):
            if record.chrom != self.chrom:
                if place > start:
                    yield self._sites(records[start:place]), slice(start, place)
                start = place
            if not self._takes(record):
                self.broken, records = True, records[:place]
                break
        if len(records) > start:
            yield self._sites(records[start:]), slice(start, len(records))

    def _takes(self, record: _Record) -> bool:
        if record.chrom != self.chrom:
            if record.chrom in self._earlier:
                return False
            self._earlier.add(record.chrom)
            self.chrom, self._pos = record.chrom, 0
        alleles = (record.ref, record.alt)
        if record.pos < self._pos or (record.pos == self._pos and alleles in self._alleles):
            return False
        if record.pos > self._pos:
            self._pos, self._alleles = record.pos, set()
        self._alleles.add(alleles)
        return True

    def _sites(self, records: list[_Record]) -> Sites:
        _, pos, id_, ref, alt = zip(*records, strict=True)
        refs, alts, ids = (np.array(values, dtype=object) for values in (ref, alt, id_))
        none = np.zeros(len(records), dtype=np.bool_)
        return Sites(records[0].chrom, np.array(pos, dtype=np.int32), refs, alts, ids, none)


def _plain_records(file: VcfFile, calls: CallFormat, threads: int) -> Iterator[tuple[list[_Record], npt.NDArray[Any]]]:
    """Consecutive records and their calls. Raises _NotPlain behind the last plain one, if others follow."""
    n_samples = len(file.samples)
    of_calls = _CALL_BYTES * n_samples
    longest = _MAX_COLUMNS + of_calls  # of a line that is held until its end is read
    rest, in_header = b"", True
    for piece in _pieces(file, threads):
        text, start = rest + piece, 0
        while in_header and (stop := text.find(b"\n", start) + 1):
            in_header = not text.startswith(b"#CHROM", start)
            start = stop
        if not in_header:
            room = (len(text) - start) // (_MIN_COLUMNS + of_calls) + 1
            fields = np.empty((room, 10), np.int64)
            rows = np.empty((room, *calls.shape(n_samples)), calls.dtype)
            count = calls.kernel(np.frombuffer(text, np.uint8), start, n_samples, fields, rows)
            if count:
                ends = fields[:count, 9].tolist()
                starts = fields[:count, 0].tolist()
                yield [_record(text[i:j]) for i, j in zip(starts, ends, strict=True)], rows[:count]
                start = ends[-1] + of_calls
        rest = text[start:]
        if not in_header and (b"\n" in rest or len(rest) > longest):
            raise _NotPlain
    if rest:
        raise _NotPlain


def _record(columns: bytes) -> _Record:
    chrom, pos, id_, ref, alt, _ = columns.decode("ascii").split("\t", 5)
    return _Record(chrom, int(pos), id_, ref.upper(), alt.upper())


def _pieces(file: VcfFile, threads: int) -> Iterator[bytes]:
    with file.path.open("rb") as handle:
        if file.container == "bgzf":
            yield from read_text(handle, threads=threads)
        else:
            while piece := handle.read(_TEXT_BYTES):
                yield piece


@compiled
def pack_phased_text(text: Alleles, start: int, n_samples: int, fields: Indices, packed: Alleles) -> int:
    """Fills ``packed`` [m, ceil(n_samples / 4)] with the alleles of the plain records of ``text`` from ``start`` on.

    It ends after m records, or before the first that is not plain or not complete, and returns their number. ``fields``
    [m, 10] gets where each record's nine columns and its calls begin. The next row of both is 0.
    """
    for number, calls in enumerate(_matches(_PHASED_RECORD, text, start, n_samples, fields)):
        if calls is None:
            packed[number] = 0
            return number
        packed[number] = np.packbits(calls[:, [0, 2]] == ord("1"))
    return len(fields)


@compiled
def number_call_text(text: Alleles, start: int, n_samples: int, fields: Indices, numbers: Numbered) -> int:
    """As ``pack_phased_text``, for targets: fills ``numbers`` [m, n_samples, 3] as ``vcf_records.Calls.array`` does."""
    for number, calls in enumerate(_matches(_RECORD, text, start, n_samples, fields)):
        if calls is None:
            numbers[number] = 0
            return number
        alleles = calls[:, [0, 2]].astype(np.int16)
        numbers[number, :, :2] = np.where(alleles == ord("."), MISSING, alleles - ord("0"))
        numbers[number, :, 2] = calls[:, 1] == ord("|")
    return len(fields)


def _matches(
    pattern: re.Pattern[bytes], text: Alleles, start: int, n_samples: int, fields: Indices
) -> Iterator[Alleles | None]:
    """The calls [n_samples, _CALL_BYTES] of each plain record, as characters. Fills ``fields``; None is the last."""
    whole = text.tobytes()
    for row in fields:
        found = pattern.match(whole, start)
        calls = b"" if found is None else found[10]
        if found is None or len(calls) != _CALL_BYTES * n_samples or calls.find(b"\n") != len(calls) - 1:
            row[:] = 0
            yield None
            return
        row[:] = [found.start(column) for column in range(1, 11)]
        yield np.frombuffer(calls, np.uint8).reshape(n_samples, _CALL_BYTES)
        start = found.end()


PACKED: Final = CallFormat(pack_phased_text, lambda n_samples: (-(-n_samples // 4),), np.uint8)  # see SiteBlocks.of
NUMBERED: Final = CallFormat(number_call_text, lambda n_samples: (n_samples, 3), np.int16)
