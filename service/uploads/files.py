"""Uploads on disk: each in a folder of its own and never under the caller's name; what they unpack to is counted
before anything parses them."""

from __future__ import annotations

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

_CHUNK: Final = 1 << 20
_MAX_NAME: Final = 200
# A header, or one record, is held in memory whole by whoever parses it.
_MAX_PIECE: Final = 64_000_000
# A folder that a process which was killed left behind.
_STALE_SECONDS: Final = 86_400.0
_GZIP: Final = b"\x1f\x8b"
_BCF: Final = b"BCF\x02"
_ZIP: Final = b"PK"
_DAMAGED: Final = cast(type[Exception], igzip_lib.IsalError)


@dataclass(frozen=True)
class Upload:
    """``target`` is the file in ``folder``, ``name`` what the caller calls it, fit to be shown."""

    folder: Path
    target: Path
    name: str


@dataclass(frozen=True)
class Counted:
    """Of a file; zeros where it is none that could be parsed, of which the parser says more."""

    n_samples: int
    n_sites: int


@contextmanager
def received(file: UploadFile, settings: Settings) -> Iterator[Upload]:
    """The upload in a folder of its own, which is removed in the end. Errors raised meanwhile name the upload as the
    caller does, and no path of this machine."""
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
        _hide_paths(error, upload)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def one_file(request: Request) -> None:
    """Raises InputError 'request_invalid' where a form has several files: only one would be read."""
    if len((await request.form()).getlist("file")) > 1:
        hint = "send one file at a time; bcftools merge makes one of several"
        raise InputError("request_invalid", "body.file: there are several files", hint=hint)


def shown_name(name: str | None) -> str:
    """The upload's name as it may be shown: one line, no folders, not too long. It is never a path."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_MAX_NAME] or "upload"


def stem(name: str) -> str:
    """The upload's name without what says its format."""
    for ending in (".gz", ".bgz", ".vcf", ".bcf"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or "target"


def _hide_paths(error: VcfbertError, upload: Upload) -> None:
    def shown(text: str | None) -> str | None:
        text = text and text.replace(str(upload.target), upload.name)
        return None if text is None or str(upload.folder) in text else text

    error.what = shown(error.what) or "the service failed on this file"
    error.where, error.hint = shown(error.where), shown(error.hint)


def _remove_stale(parent: Path) -> None:
    for folder in parent.iterdir():
        with suppress(FileNotFoundError):  # another request was faster
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def check_upload(path: Path, settings: Settings) -> Counted:
    """Unpacks a VCF, VCF.gz or BCF as a stream, and counts. Raises InputError: 'too_large_unpacked',
    'too_many_samples', 'too_many_sites', and 'not_vcf' of a zip: what a VCF Zarr unpacks to is not counted.

    What is no such file, or cut short, is not refused here: reading it says why, and reads no more than was counted.
    """
    count = _Count(path, settings)
    with path.open("rb") as raw:
        magic = raw.read(2)
        if magic == _ZIP:
            hint = "send a VCF, VCF.gz or BCF; `vcfbert impute` takes VCF Zarr"
            raise InputError("not_vcf", "a zip is not taken here", where=str(path), hint=hint)
        packed = magic == _GZIP
        raw.seek(0)
        stream = cast(Any, igzip).open(raw) if packed else raw
        with suppress(EOFError, OSError, struct.error, _DAMAGED):
            magic = count.read(stream, 5)
            if magic[:4] == _BCF:
                count.bcf(stream)
            else:
                count.vcf(stream, magic)
            while count.read(stream, _CHUNK):
                pass
    return Counted(count.n_samples, count.n_sites)


class _Count:
    """Counts bytes as they are read, samples and sites as they are seen."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._n_bytes = 0
        self.n_samples = 0
        self.n_sites = 0

    def read(self, stream: BinaryIO, size: int) -> bytes:
        data = stream.read(size)
        self._n_bytes += len(data)
        if self._n_bytes > self._settings.max_unpacked_bytes:
            what = f"the file is larger than {self._settings.max_unpacked_mb} MB once unpacked"
            raise self._error("too_large_unpacked", what)
        return data

    def vcf(self, stream: BinaryIO, text: bytes) -> None:
        """Counts text that begins with ``text``, line by line without splitting it."""
        header = text
        while (start := _columns_line(header)) < 0 or b"\n" not in header[start:]:
            data = self.read(stream, _CHUNK)
            if not data:
                return
            header += data
            self._check_piece(len(header), "its header")
        end = header.index(b"\n", start)
        self._samples(header[start:end])
        rest, held = header[end + 1 :], 0  # bytes of the line that is being read
        while rest or (rest := self.read(stream, _CHUNK)):
            self._sites(rest.count(b"\n"))
            first, last = rest.find(b"\n"), rest.rfind(b"\n")
            self._check_piece(held + (len(rest) if first < 0 else first), "a record")
            held = held + len(rest) if last < 0 else len(rest) - last - 1
            rest = b""

    def bcf(self, stream: BinaryIO) -> None:
        (length,) = struct.unpack("<I", self.read(stream, 4))
        self._check_piece(length, "its header")
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
            what = f"the file has {self.n_samples} samples, and {self._settings.max_samples} are taken at most"
            raise self._error("too_many_samples", what)

    def _sites(self, more: int) -> None:
        self.n_sites += more
        if self.n_sites > self._settings.max_sites:
            what = f"the file has more than {self._settings.max_sites} records"
            raise self._error("too_many_sites", what)

    def _check_piece(self, size: int, name: str) -> None:
        if size > _MAX_PIECE:
            raise self._error("too_large_unpacked", f"{name} is longer than {_MAX_PIECE // 1_000_000} MB")

    def _error(self, code: str, what: str) -> InputError:
        hint = "send fewer samples or sites at once: bcftools view -S SAMPLES, or -r REGION"
        return InputError(code, what, where=str(self._path), hint=hint)


def _columns_line(header: bytes) -> int:
    """Where the line of the columns begins; -1 if it is not there."""
    if header.startswith(b"#CHROM"):
        return 0
    return header.find(b"\n#CHROM") + 1 or -1
