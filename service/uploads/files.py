"""Uploads on disk: each in its own folder, never under the caller's file name. They are read in parser processes, which
check their decompressed size first."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import Request, UploadFile

from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes.file_size import FileSize, SizeLimits, file_size
from vcfbert.genotypes.parsing.confinement import ParserLimits
from vcfbert.genotypes.parsing.process import Cancelled, Parser, ParserServer

from ..settings import Settings
from ..storage import unusable

FILE_FIELD: Final = "a VCF, VCF.gz or BCF"
_CHUNK: Final = 1 << 20
_MAX_NAME: Final = 200
# Age in seconds at which a folder counts as left behind by a killed process.
_STALE_SECONDS: Final = 86_400.0


@dataclass(frozen=True)
class Upload:
    """``target`` is the file in ``folder``. ``name`` is the caller's file name, as `shown_name` cleans it."""

    folder: Path
    target: Path
    name: str


@contextmanager
def received(file: UploadFile, settings: Settings) -> Iterator[Upload]:
    """Stores the upload in its own folder, which is removed at the end of the block.

    Errors raised within the block are changed to show the caller's file name and no path of this machine.
    """
    parent = settings.data / "uploads"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        raise unusable(error) from error
    upload = Upload(folder, folder / "target", shown_name(file.filename))
    try:
        _store(file, upload.target)
        yield upload
    except VcfbertError as error:
        hide_paths(error, upload)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _store(file: UploadFile, target: Path) -> None:
    try:
        with target.open("wb") as handle:
            shutil.copyfileobj(file.file, handle, _CHUNK)
    except OSError as error:
        raise unusable(error) from error


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


def open_parsers(settings: Settings) -> ParserServer:
    """Starts parser processes, one for each upload, with the limits of the settings."""
    return ParserServer(parser_limits(settings))


def parser_limits(settings: Settings) -> ParserLimits:
    """The limits of a parser process."""
    return ParserLimits(settings.parser_memory_mb * 1_000_000, settings.parser_cpu_seconds, settings.parser_seconds)


def check_upload(upload: Path, settings: Settings, parser: Parser, cancelled: Cancelled | None = None) -> FileSize:
    """Counts samples and sites, within the limits of the settings. Raises InputError as ``file_size`` does."""
    limits = SizeLimits(
        settings.max_unpacked_mb,
        settings.max_samples,
        settings.max_sites,
        header=settings.max_header_mb * 1_000_000,
        record=settings.max_record_mb * 1_000_000,
        contigs=settings.max_contigs,
        undeclared=settings.max_undeclared,
        keys=settings.max_keys,
    )
    return file_size(upload, limits, parser=parser, cancelled=cancelled)
