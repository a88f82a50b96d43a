"""Counts the decompressed bytes, samples and sites of a VCF or BCF, before a parser reads it, up to limits."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from isal import igzip, igzip_lib

from vcfbert.errors import InputError
from vcfbert.genotypes.bgzf import GZIP_MAGIC
from vcfbert.genotypes.parsing.messages import NUMBER, Record
from vcfbert.genotypes.parsing.process import Cancelled, Parser, in_parser
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.record_names import RecordNames
from vcfbert.genotypes.vcf_file import BCF_MAGIC

_ZIP: Final = b"PK"
_COLUMNS: Final = b"\n#CHROM"
_FEWER: Final = "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)"
_FEWER_KEYS: Final = "keep the genotypes alone: `bcftools annotate -x FILTER,INFO,^FORMAT/GT`"
_SHORTER_HEADER: Final = "drop lines of the header that nothing needs: `bcftools reheader -h HEADER`"
_FEWER_CONTIGS: Final = f"keep the `##contig` lines of the chromosomes to impute; {_SHORTER_HEADER}"
_DECLARE: Final = f"declare chromosomes by `bcftools reheader --fai`; of other names {_FEWER_KEYS}"
_DAMAGED: Final = cast(type[Exception], igzip_lib.IsalError)


@dataclass(frozen=True)
class SizeLimits:
    """``mb``: of a decompressed file, in units of 10^6 bytes. ``header``, ``record``: bytes of the header and of one
    record, which parsers hold in memory as a whole. ``contigs``: chromosomes that the header declares. ``undeclared``:
    chromosomes, filters and keys of INFO and FORMAT that it does not declare (``record_names.py``). ``keys``: filters
    and keys of one record. ``chunk``: bytes decompressed at once.
    """

    mb: int
    samples: int
    sites: int
    header: int = 20_000_000
    record: int = 20_000_000
    contigs: int = 100_000
    undeclared: int = 1000
    keys: int = 1000
    chunk: int = 1 << 16


class FileSize(NamedTuple):
    """Counts of a file. Both are 0 if the file is no VCF or BCF; the parser then raises the error."""

    n_samples: int
    n_sites: int


def file_size(
    path: Path, limits: SizeLimits, *, parser: Parser | None = None, cancelled: Cancelled | None = None
) -> FileSize:
    """Decompresses a VCF, VCF.gz or BCF as a stream and counts its samples and sites, in a parser process.

    Raises InputError 'too_large_unpacked', 'header_too_large', 'record_too_large', 'too_many_samples',
    'too_many_sites', 'too_many_contigs', 'too_many_undeclared' or 'too_many_keys', and 'not_vcf' for a zip file: the
    decompressed size of a VCF Zarr cannot be checked. Other formats and truncated files pass: the parser raises their
    error, and it reads no more bytes than were counted here. ``parser`` and ``cancelled``: as in ``in_parser``.
    """
    kinds = (Record(FileSize, n_samples=NUMBER, n_sites=NUMBER),)
    *_, size = in_parser(count, path, limits, kinds=kinds, parser=parser, cancelled=cancelled)
    return cast(FileSize, size)


def count(path: Path, trace: Trace | None, limits: SizeLimits) -> Iterator[FileSize]:
    """What ``file_size`` returns. Runs in a parser process."""
    counts = _Count(path, limits)
    with path.open("rb") as raw:
        magic = raw.read(2)
        if magic == _ZIP:
            hint = "send a VCF, VCF.gz or BCF; `vcfbert impute` reads VCF Zarr"
            raise InputError("not_vcf", "the service does not accept zip files", where=str(path), hint=hint)
        raw.seek(0)
        stream = cast(Any, igzip).open(raw) if magic == GZIP_MAGIC else raw
        with suppress(EOFError, OSError, struct.error, _DAMAGED):
            magic = counts.read(stream, 5)
            if magic[:4] == BCF_MAGIC:
                counts.bcf(stream)
            else:
                counts.vcf(stream, magic)
            while counts.read(stream, limits.chunk):
                pass
    yield FileSize(counts.n_samples, counts.n_sites)


class _Count:
    """Counts bytes, samples and sites while a file is read, and raises the error of an exceeded limit."""

    def __init__(self, path: Path, limits: SizeLimits) -> None:
        self._path = path
        self._limits = limits
        self._n_bytes = 0
        self.n_samples = 0
        self.n_sites = 0

    def read(self, stream: BinaryIO, size: int) -> bytes:
        data = stream.read(size)
        self._n_bytes += len(data)
        if self._n_bytes > self._limits.mb * 1_000_000:
            what = f"the decompressed file is larger than {self._limits.mb} MB"
            raise self._error("too_large_unpacked", what)
        return data

    def vcf(self, stream: BinaryIO, text: bytes) -> None:
        """Counts a VCF whose first bytes are ``text``."""
        header, start = bytearray(text), _columns_line(text)
        while start < 0 or header.find(b"\n", start) < 0:
            searched = max(len(header) - len(_COLUMNS), 0)
            data = self.read(stream, self._limits.chunk)
            if not data:
                return
            header += data
            self._check_header(len(header))
            start = _columns_line(header, searched) if start < 0 else start
        end = header.index(b"\n", start)
        names = self._header(bytes(header[:start]), bytes(header[start:end]))
        held, data = bytearray(), bytes(header[end + 1 :])  # held: the unfinished line
        while data or (data := self.read(stream, self._limits.chunk)):
            held += data
            self._sites(data.count(b"\n"))
            first, last = held.find(b"\n", len(held) - len(data)), held.rfind(b"\n", len(held) - len(data))
            self._check_record(len(held) if first < 0 else first)
            if last >= 0:
                self._check_names(names, held, last + 1)
                del held[: last + 1]
            data = b""
        self._check_names(names, held, len(held))

    def bcf(self, stream: BinaryIO) -> None:
        """Counts a BCF, from behind its magic number."""
        (length,) = struct.unpack("<I", self.read(stream, 4))
        self._check_header(length)
        header = self.read(stream, length)
        start = _columns_line(header)
        if start < 0:
            return
        self._header(header[:start], header[start:].rstrip(b"\0").rstrip(b"\r\n"))
        while len(lengths := self.read(stream, 8)) == 8:
            size = sum(struct.unpack("<II", lengths))
            self._check_record(size)
            if len(self.read(stream, size)) < size:
                return
            self._sites(1)

    def _header(self, header: bytes, columns: bytes) -> RecordNames:
        """Checks the header's lines and its ``columns`` line."""
        limits = self._limits
        self.n_samples = max(columns.count(b"\t") - 8, 0)
        if self.n_samples > limits.samples:
            what = f"the file has {self.n_samples} samples; the maximum is {limits.samples}"
            raise self._error("too_many_samples", what)
        names = RecordNames(header, limits.undeclared)
        if names.n_contigs > limits.contigs:
            what = f"the header has {names.n_contigs} chromosomes; the maximum is {limits.contigs}"
            raise self._error("too_many_contigs", what, _FEWER_CONTIGS)
        return names

    def _check_names(self, names: RecordNames, records: bytearray, stop: int) -> None:
        """Checks the names of whole records, the bytes before ``stop``."""
        limits = self._limits
        names.read(records, stop)
        if names.n_undeclared > limits.undeclared:
            what = f"more than {limits.undeclared} chromosomes, filters and keys of records are not in the header"
            raise self._error("too_many_undeclared", what, _DECLARE)
        if names.n_keys > limits.keys:
            what = f"a record has {names.n_keys} filters and keys of INFO and FORMAT; the maximum is {limits.keys}"
            raise self._error("too_many_keys", what, _FEWER_KEYS)

    def _sites(self, more: int) -> None:
        self.n_sites += more
        if self.n_sites > self._limits.sites:
            what = f"the file has more than {self._limits.sites} records, the maximum"
            raise self._error("too_many_sites", what)

    def _check_header(self, size: int) -> None:
        if size > self._limits.header:
            what = f"the header is longer than {self._limits.header} bytes"
            raise self._error("header_too_large", what, _SHORTER_HEADER)

    def _check_record(self, size: int) -> None:
        if size > self._limits.record:
            raise self._error("record_too_large", f"a record is longer than {self._limits.record} bytes", _FEWER_KEYS)

    def _error(self, code: str, what: str, hint: str = _FEWER) -> InputError:
        return InputError(code, what, where=str(self._path), hint=hint)


def _columns_line(header: bytes | bytearray, start: int = 0) -> int:
    """Returns the offset of the #CHROM line, or -1 if there is none. ``start``: where it may begin at the earliest."""
    if start == 0 and header.startswith(_COLUMNS[1:]):
        return 0
    return header.find(_COLUMNS, start) + 1 or -1
