"""Uploads on disk: each in its own folder, never under the caller's file name. Their decompressed size is checked
before any parser reads them."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from fastapi import Request, UploadFile
from isal import igzip, igzip_lib

from vcfbert.errors import InputError, VcfbertError

from ..settings import Settings

FILE_FIELD: Final = "a VCF, VCF.gz or BCF"
_CHUNK: Final = 1 << 20
_MAX_NAME: Final = 200
# Maximum bytes of a header or of one record: parsers hold either in memory as a whole.
MAX_PIECE: Final = 64_000_000
# Age in seconds at which a folder counts as left behind by a killed process.
_STALE_SECONDS: Final = 86_400.0
_GZIP: Final = b"\x1f\x8b"
_BCF: Final = b"BCF\x02"
_ZIP: Final = b"PK"
_DAMAGED: Final = cast(type[Exception], igzip_lib.IsalError)


@dataclass(frozen=True)
class Upload:
    """``target`` is the file in ``folder``. ``name`` is the caller's file name, as `shown_name` cleans it."""

    folder: Path
    target: Path
    name: str


@dataclass(frozen=True)
class Counted:
    """Counts of a file. Both are 0 if the file is no VCF or BCF; the parser then raises the error."""

    n_samples: int
    n_sites: int


@contextmanager
def received(file: UploadFile, settings: Settings) -> Iterator[Upload]:
    """Stores the upload in its own folder, which is removed at the end of the block.

    Errors raised within the block are changed to show the caller's file name and no path of this machine.
    """
    parent = settings.data / "uploads"
    parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(parent)
    folder = Path(tempfile.mkdtemp(dir=parent))
    upload = Upload(folder, folder / "target", shown_name(file.filename))
    try:
        with upload.target.open("wb") as handle:
            shutil.copyfileobj(file.file, handle, _CHUNK)
        yield upload
    except VcfbertError as error:
        hide_paths(error, upload)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def one_file(request: Request) -> None:
    """Raises InputError 'request_invalid' if the form has several files: FastAPI would read only one of them."""
    if len((await request.form()).getlist("file")) > 1:
        hint = "send one file per request; `bcftools merge` joins the samples of several files"
        raise InputError("request_invalid", "body.file: the form has several files", hint=hint)


def shown_name(name: str | None) -> str:
    """Returns the caller's file name in one line, without folders and of limited length. It is never used as a path."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_MAX_NAME] or "upload"


def stem(name: str) -> str:
    """Returns the upload's name without the extensions of its format."""
    for ending in (".gz", ".bgz", ".vcf", ".bcf"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or "target"


def without_paths(text: str | None, target: Path, name: str, folder: Path) -> str | None:
    """Returns the text with ``name`` in place of the path ``target``; None if it names another path of ``folder``.

    Both are recognized in relative and in absolute form: the latter holds the former, so it is replaced first.
    """
    if text is None:
        return None
    for path in (target.absolute(), target):
        text = text.replace(str(path), name)
    return None if str(folder) in text or str(folder.absolute()) in text else text


def read_qc(path: Path) -> dict[str, Any] | None:
    """Returns the QC summary that the imputation wrote; None if it wrote none."""
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    summary.pop("sites", None)  # the table's file name on this machine
    return summary


def hide_paths(error: VcfbertError, upload: Upload) -> None:
    """Changes the texts of the error to show the caller's file name and no path of this machine."""
    own = (upload.target, upload.name, upload.folder)
    error.what = without_paths(error.what, *own) or "the service failed on this file"
    error.where, error.hint = without_paths(error.where, *own), without_paths(error.hint, *own)


def _remove_stale(parent: Path) -> None:
    for folder in parent.iterdir():
        with suppress(FileNotFoundError):  # another request was faster
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def check_upload(path: Path, settings: Settings, *, chunk_bytes: int = _CHUNK, max_piece: int = MAX_PIECE) -> Counted:
    """Decompresses a VCF, VCF.gz or BCF as a stream and counts its samples and sites.

    Raises InputError 'too_large_unpacked', 'too_many_samples' or 'too_many_sites', and 'not_vcf' for a zip file: the
    decompressed size of a VCF Zarr cannot be checked. Other formats and truncated files pass: the parser raises their
    error, and it reads no more bytes than were counted here.

    ``chunk_bytes``: decompressed bytes read at once. ``max_piece``: maximum bytes of the header and of each record.
    """
    count = _Count(path, settings, chunk_bytes, max_piece)
    with path.open("rb") as raw:
        magic = raw.read(2)
        if magic == _ZIP:
            hint = "send a VCF, VCF.gz or BCF; `vcfbert impute` reads VCF Zarr"
            raise InputError("not_vcf", "the service does not accept zip files", where=str(path), hint=hint)
        packed = magic == _GZIP
        raw.seek(0)
        stream = cast(Any, igzip).open(raw) if packed else raw
        with suppress(EOFError, OSError, struct.error, _DAMAGED):
            magic = count.read(stream, 5)
            if magic[:4] == _BCF:
                count.bcf(stream)
            else:
                count.vcf(stream, magic)
            while count.read(stream, chunk_bytes):
                pass
    return Counted(count.n_samples, count.n_sites)


class _Count:
    """Counts bytes, samples and sites while a file is read, and raises the error of an exceeded limit."""

    def __init__(self, path: Path, settings: Settings, chunk_bytes: int, max_piece: int) -> None:
        self._path = path
        self._settings = settings
        self._chunk_bytes = chunk_bytes
        self._max_piece = max_piece
        self._n_bytes = 0
        self.n_samples = 0
        self.n_sites = 0

    def read(self, stream: BinaryIO, size: int) -> bytes:
        data = stream.read(size)
        self._n_bytes += len(data)
        if self._n_bytes > self._settings.max_unpacked_bytes:
            what = f"the decompressed file is larger than {self._settings.max_unpacked_mb} MB"
            raise self._error("too_large_unpacked", what)
        return data

    def vcf(self, stream: BinaryIO, text: bytes) -> None:
        """Counts a VCF whose first bytes are ``text``, without splitting it into lines."""
        header = text
        while (start := _columns_line(header)) < 0 or b"\n" not in header[start:]:
            data = self.read(stream, self._chunk_bytes)
            if not data:
                return
            header += data
            self._check_piece(len(header), "the header")
        end = header.index(b"\n", start)
        self._samples(header[start:end])
        rest, held = header[end + 1 :], 0  # held: bytes of the unfinished line
        while rest or (rest := self.read(stream, self._chunk_bytes)):
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
        if self.n_samples > self._settings.max_samples:
            what = f"the file has {self.n_samples} samples; the maximum is {self._settings.max_samples}"
            raise self._error("too_many_samples", what)

    def _sites(self, more: int) -> None:
        self.n_sites += more
        if self.n_sites > self._settings.max_sites:
            what = f"the file has more than {self._settings.max_sites} records, the maximum"
            raise self._error("too_many_sites", what)

    def _check_piece(self, size: int, name: str) -> None:
        if size > self._max_piece:
            raise self._error("too_large_unpacked", f"{name} is longer than {self._max_piece // 1_000_000} MB")

    def _error(self, code: str, what: str) -> InputError:
        hint = "send fewer samples (`bcftools view -S SAMPLES`) or fewer sites (`bcftools view -r REGION`)"
        return InputError(code, what, where=str(self._path), hint=hint)


def _columns_line(header: bytes) -> int:
    """Returns the offset of the #CHROM line, or -1 if there is none."""
    if header.startswith(b"#CHROM"):
        return 0
    return header.find(b"\n#CHROM") + 1 or -1
