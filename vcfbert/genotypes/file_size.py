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
from vcfbert.genotypes.vcf_file import BCF_MAGIC

_ZIP: Final = b"PK"
_DAMAGED: Final = cast(type[Exception], igzip_lib.IsalError)


@dataclass(frozen=True)
class SizeLimits:
    """``mb``: of a decompressed file, in units of 10^6 bytes. ``piece``: bytes of a header or of one record, which
    parsers hold in memory as a whole. ``chunk``: bytes decompressed at once.
    """

    mb: int
    samples: int
    sites: int
    piece: int = 64_000_000
    chunk: int = 1 << 16


class FileSize(NamedTuple):
    """Counts of a file. Both are 0 if the file is no VCF or BCF; the parser then raises the error."""

    n_samples: int
    n_sites: int


def file_size(
    path: Path, limits: SizeLimits, *, parser: Parser | None = None, cancelled: Cancelled | None = None
) -> FileSize:
    """Decompresses a VCF, VCF.gz or BCF as a stream and counts its samples and sites, in a parser process.

    Raises InputError 'too_large_unpacked', 'too_many_samples' or 'too_many_sites', and 'not_vcf' for a zip file: the
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
        """Counts a VCF whose first bytes are ``text``, without splitting it into lines."""
        header = text
        while (start := _columns_line(header)) < 0 or b"\n" not in header[start:]:
            data = self.read(stream, self._limits.chunk)
            if not data:
                return
            header += data
            self._check_piece(len(header), "the header")
        end = header.index(b"\n", start)
        self._samples(header[start:end])
        rest, held = header[end + 1 :], 0  # held: bytes of the unfinished line
        while rest or (rest := self.read(stream, self._limits.chunk)):
            self._sites(rest.count(b"\n"))
            first, last = rest.find(b"\n"), rest.rfind(b"\n")
            self._check_piece(held + (len(rest) if first < 0 else first), "a record")
            held = held + len(rest) if last < 0 else len(rest) - last - 1
            rest = b""

    def bcf(self, stream: BinaryIO) -> None:
        """Counts a BCF, from behind its magic number."""
        (length,) = struct.unpack("<I", self.read(stream, 4))
        self._check_piece(length, "the header")
        header = self.read(stream, length)
        start = _columns_line(header)
        if start < 0:
            return
        self._samples(header[start:].rstrip(b"\0").rstrip(b"\r\n"))
        while len(lengths := self.read(stream, 8)) == 8:
            size = sum(struct.unpack("<II", lengths))
            self._check_piece(size, "a record")
            if len(self.read(stream, size)) < size:
                return
            self._sites(1)

    def _samples(self, columns: bytes) -> None:
        self.n_samples = max(columns.count(b"\t") - 8, 0)
        if self.n_samples > self._limits.samples:
            what = f"the file has {self.n_samples} samples; the maximum is {self._limits.samples}"
            raise self._error("too_many_samples", what)

    def _sites(self, more: int) -> None:
        self.n_sites += more
        if self.n_sites > self._limits.sites:
            what = f"the file has more than {self._limits.sites} records, the maximum"
            raise self._error("too_many_sites", what)

    def _check_piece(self, size: int, name: str) -> None:
        if size > self._limits.piece:
            raise self._error("too_large_unpacked", f"{name} is longer than {self._limits.piece // 1_000_000} MB")

    def _error(self, code: str, what: str) -> InputError:
        hint = "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)"
        return InputError(code, what, where=str(self._path), hint=hint)


def _columns_line(header: bytes) -> int:
    """Returns the offset of the #CHROM line, or -1 if there is none."""
    if header.startswith(b"#CHROM"):
        return 0
    return header.find(b"\n#CHROM") + 1 or -1
