"""Checks, before any record is parsed, that a file is a complete VCF or BCF with a usable header.

htslib accepts a file that is cut at a block's border and reports other damage on stderr only. These checks raise an
error with a hint for both.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from vcfbert.errors import InputError
from vcfbert.genotypes.bgzf import BGZF_MAGIC, EOF_BLOCK, GZIP_MAGIC

_VCF_MAGIC = b"##fileformat=VCF"
BCF_MAGIC = b"BCF\x02"
_WITHOUT_LEADING_MARKS = ("v4.0", "v4.1", "v4.2", "v4.3")
_CHUNK = 1 << 20
_N_COLUMNS = 9  # before the samples

_CONVERT_PLINK = "give a VCF, VCF.gz or BCF; `plink2 --export vcf bgz` converts PLINK files"
HEADER_SPACES = "separate columns by tabs: `sed -E '/^##/!s/ +/\\t/g' IN > OUT`"
_COMPRESS_BCF = "compress it again: bcftools view IN -Ob -o OUT"

Container = Literal["plain", "gzip", "bgzf"]


@dataclass(frozen=True)
class VcfFile:
    """A file that passed the checks. ``samples`` are in the header's order."""

    path: Path
    container: Container
    is_bcf: bool
    samples: tuple[str, ...]
    version: str  # of the VCF format, such as v4.2; empty in a BCF

    @property
    def may_mark_phase_first(self) -> bool:
        """Whether calls may begin with a phase mark (|0|1)."""
        return not self.is_bcf and self.version not in _WITHOUT_LEADING_MARKS

    @property
    def has_index(self) -> bool:
        """Whether a tabix or CSI index lies beside the file."""
        return self.container == "bgzf" and any(Path(f"{self.path}{end}").is_file() for end in (".tbi", ".csi"))


def inspect(path: Path) -> VcfFile:
    """Checks a VCF or BCF and reads its container and samples.

    Raises InputError: file_not_found, not_a_file, empty, not_vcf, vcf_invalid, truncated, no_samples,
    duplicate_samples.
    """
    refuse_pipe(path)
    if not path.is_file():
        what = "this is a folder and no VCF or BCF" if path.is_dir() else "no such file"
        raise InputError("file_not_found", what, where=str(path), hint="check the path")
    try:
        with path.open("rb") as handle:
            container = _container(handle)
    except OSError as error:
        raise InputError("file_not_found", f"cannot be read ({error.strerror})", where=str(path)) from error
    if path.stat().st_size == 0:
        raise InputError("empty", "the file is empty", where=str(path), hint="copy or create it again")
    _check_complete(path, container)
    return _read_header(path, container)


def refuse_pipe(path: Path) -> None:
    """Raises InputError('not_a_file') for what can be read only once."""
    if path.is_fifo() or path.is_socket() or path.is_char_device():
        raise InputError(
            "not_a_file",
            "this is a pipe or a device, and a file is read more than once",
            where=str(path),
            hint="write it to a file first: `bcftools view ... -o FILE`",
        )


def _container(handle: BinaryIO) -> Container:
    head = handle.read(14)
    if head[:4] == BGZF_MAGIC and head[12:14] == b"BC":
        return "bgzf"
    return "gzip" if head[:2] == GZIP_MAGIC else "plain"


def _check_complete(path: Path, container: Container) -> None:
    if container == "bgzf":
        with path.open("rb") as handle:
            handle.seek(max(path.stat().st_size - len(EOF_BLOCK), 0))
            if handle.read() != EOF_BLOCK:
                raise truncated(path, "its BGZF end-of-file block is missing")
    elif container == "gzip":
        # Plain gzip has no end marker to look up. Its checksum is known only after the whole file is read.
        try:
            with gzip.open(path) as stream:
                while stream.read(_CHUNK):
                    pass
        except (EOFError, OSError, zlib.error) as error:
            raise truncated(path, str(error)) from error


def truncated(path: Path, detail: str) -> InputError:
    """The error of an incomplete or damaged file."""
    return InputError(
        "truncated",
        f"the file is cut short or damaged: {detail}",
        where=str(path),
        hint="copy or download it again, and compare its size or checksum with those of the original",
    )


def _read_header(path: Path, container: Container) -> VcfFile:
    """Reads format and samples. Raises InputError: not_vcf, truncated, and those of ``check_samples``."""
    try:
        with cast(BinaryIO, path.open("rb") if container == "plain" else gzip.open(path)) as stream:
            magic = stream.read(len(_VCF_MAGIC))
            is_bcf = magic.startswith(BCF_MAGIC)
            if is_bcf and container == "gzip":
                raise _not_vcf(path, "a BCF must be compressed with BGZF, and this one is with gzip", _COMPRESS_BCF)
            version = "" if magic != _VCF_MAGIC else stream.readline().decode(errors="replace").strip()
            columns = _header_columns(stream, magic, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise truncated(path, str(error)) from error
    samples = tuple(columns[_N_COLUMNS:])
    check_samples(samples, path, hint="rename them: bcftools reheader --samples")
    return VcfFile(path, container, is_bcf, samples, version)


def check_samples(samples: Sequence[str], path: Path, *, hint: str) -> None:
    """Raises InputError: no_samples, or vcf_invalid or duplicate_samples with ``hint``: how to rename samples."""
    if not samples:
        remedy = "give a file with genotypes; sites alone cannot be used"
        raise InputError("no_samples", "the file has no samples", where=str(path), hint=remedy)
    broken = next((name for name in samples if not name or any(ord(letter) < ord(" ") for letter in name)), None)
    if broken is not None:
        what = f"a sample has the name {broken!r}: names need letters, and no control characters"
        raise InputError("vcf_invalid", what, where=str(path), hint=hint)
    repeated = [name for name, count in Counter(samples).items() if count > 1]
    if repeated:
        what = f"{len(repeated)} sample names appear more than once, such as {repeated[0]!r}"
        raise InputError("duplicate_samples", what, where=str(path), hint=hint)


def _header_columns(stream: BinaryIO, magic: bytes, path: Path) -> list[str]:
    """The columns of the header's #CHROM line. ``magic``: the first bytes, already read from ``stream``."""
    lines: Iterable[bytes]
    if magic.startswith(BCF_MAGIC):
        if len(magic) < 9:
            hint = "copy or download it again"
            raise InputError("vcf_invalid", "the BCF ends within its header", where=str(path), hint=hint)
        (length,) = struct.unpack("<I", magic[5:9])
        text = magic[9:] + stream.read(length - (len(magic) - 9))
        lines = text.rstrip(b"\x00").split(b"\n")
    elif magic == _VCF_MAGIC:
        lines = stream
    else:
        raise _not_vcf(path, "it is no BCF and does not begin with ##fileformat=VCF")
    for line in lines:
        if line.startswith(b"#CHROM"):
            columns = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
            if len(columns) < _N_COLUMNS < len(line.split()):
                what = "columns are separated by spaces, and a VCF needs tabs"
                raise InputError("vcf_invalid", what, where=f"{path}, the line #CHROM", hint=HEADER_SPACES)
            return columns
        if not line.startswith(b"#"):
            break
    raise _not_vcf(path, "its header has no #CHROM line")


def _not_vcf(path: Path, detail: str, hint: str = _CONVERT_PLINK) -> InputError:
    return InputError("not_vcf", f"not a VCF or BCF: {detail}", where=str(path), hint=hint)
