"""Artifacts: folders that are written under a temporary name, fsynced and renamed, with ``manifest.json`` last.

A manifest holds the artifact's kind and format version, the values of its writer, and the sha256 of every other file.
Readers check the version and the hashes before they parse anything. The section ``provenance`` names the code that
wrote the artifact.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from vcfbert import __version__
from vcfbert.errors import ArtifactError, DiskFullError, InputError, VcfbertError

MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.sig"  # a detached signature of the manifest, added after the artifact was written
_UNLISTED = (MANIFEST, SIGNATURE)  # files without a sha256 in the manifest

# Packages that affect results.
_PACKAGES = ("torch", "numpy", "faiss-cpu", "lightning-fabric", "cyvcf2", "pysam", "safetensors")

# The commands that write an artifact of each kind.
_WRITERS = {"bundle": "`vcfbert fit` or `dvc repro`", "panel": "`vcfbert panel build` or `dvc repro`"}

PRIVATE = 0o600  # mode of files that hold genotypes of a service's callers

# errno where the device is full or a quota is used up.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """sha256 of a JSON-serialisable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_full(error: OSError, path: Path | str | None) -> DiskFullError:
    """The error that a user sees where a disk is full."""
    what = f"the output does not fit on the disk ({error.strerror})"
    where = None if path is None else str(path)
    return DiskFullError("disk_full", what, where=where, hint="free some space, or write elsewhere")


def output_error(error: OSError, path: Path) -> VcfbertError:
    """The error that a user sees where writing to ``path`` failed."""
    if error.errno in DISK_FULL:
        return disk_full(error, path)
    return InputError(
        "output_not_writable",
        f"cannot write here ({error.strerror or error})",
        where=str(path),
        hint="choose a folder that exists and that you may write to",
    )


@contextmanager
def atomic_file(path: Path, *, kept: bool = True, private: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``. It is renamed to ``path`` on success and removed on failure.

    A file that is ``kept`` is on the disk when it gets its name. Other files are read at once and then removed. Only
    its user may read a ``private`` file.
    """
    # A random name, not the process id: two machines of a cluster may write the same file on a shared disk.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch(PRIVATE if private else 0o666)
        yield temporary
        if kept:
            _fsync(temporary)
        os.replace(temporary, path)
        if kept:
            _fsync(path.parent)
    except OSError as error:
        raise output_error(error, path) from error
    finally:
        with suppress(OSError):  # the folder itself may be missing
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file under a temporary name and renames it. Raises InputError or DiskFullError."""
    with atomic_file(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file with sorted keys, as ``write_text`` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def remove_indexes(path: Path, *, but: str | None = None) -> None:
    """Removes the indexes of a VCF.gz or BCF beside ``path``, but the one with the ending ``but``.

    An index of an earlier file would hide records of this one. Of two indexes tools read the .csi first.
    """
    for ending in (".csi", ".tbi"):
        if ending != but:
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


def check_replaceable(path: Path, kind: str) -> None:
    """Raises InputError if an artifact of ``kind`` must not or cannot be written to ``path``.

    Writing replaces the folder at ``path``, so a folder that holds anything else is refused. Call this before the work
    that produces the artifact.
    """
    if path.is_dir() and any(path.iterdir()) and _kind(path) != kind:
        raise InputError(
            "output_not_replaceable",
            f"this folder is not a {kind}, and its files would be deleted",
            where=str(path),
            hint="name a new folder, or empty this one",
        )
    import tempfile  # here, because imputation does without it

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise output_error(error, path) from error


def _kind(path: Path) -> str | None:
    try:
        return str(json.loads((path / MANIFEST).read_text())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def atomic_folder(path: Path, *, kind: str, version: int, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yields a temporary folder to fill. On success it replaces ``path``; on failure it is removed.

    The files are hashed and the manifest is written last. The caller may fill ``manifest`` while it writes the folder.
    """
    import tempfile

    check_replaceable(path, kind)
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        temporary.chmod(0o755)
        yield temporary
        files = sorted(p for p in temporary.rglob("*") if p.is_file())
        hashes = {p.relative_to(temporary).as_posix(): sha256_file(p) for p in files}
        for file in files:
            _fsync(file)
        body = {"kind": kind, "format_version": version, **manifest, "files": hashes}
        (temporary / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
        _fsync(temporary / MANIFEST)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        raise output_error(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(path: Path, *, kind: str, version: int, verify: bool = True) -> Mapping[str, Any]:
    """The manifest of the artifact at ``path``. Checks its kind, its format version and, with ``verify``, all hashes.

    Raises ArtifactError KIND_missing, KIND_unfinished, KIND_damaged, KIND_format or KIND_hash.
    """
    where = str(path)
    if not path.is_dir():
        raise ArtifactError(f"{kind}_missing", f"no {kind} here", where=where, hint="check the path")
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{kind}_unfinished",
            f"not a finished {kind}: {MANIFEST} is missing",
            where=where,
            hint="check the path, or write it again: its writer may have been interrupted",
        )
    manifest, files = _parse_manifest(path, kind)
    found = (manifest["kind"], manifest["format_version"])
    if found != (kind, version):
        raise ArtifactError(
            f"{kind}_format",
            f"this is a {found[0]} of format {found[1]}; {kind} format {version} is required",
            where=where,
            hint=f"write it again with this version of vcfbert: {_WRITERS.get(kind, '`dvc repro`')}",
        )
    if verify:
        _check_hashes(path, kind, files)
    return manifest


def check_files(path: Path, kind: str) -> None:
    """Checks the sha256 of every file that the manifest at ``path`` lists, whatever its format version.

    Raises ArtifactError KIND_damaged or KIND_hash.
    """
    _, files = _parse_manifest(path, kind)
    _check_hashes(path, kind, files)


def listed_files(path: Path, kind: str) -> list[str]:
    """The names of the files that the manifest at ``path`` lists, relative to it. Raises ArtifactError KIND_damaged."""
    return list(_parse_manifest(path, kind)[1])


def is_digest(text: str) -> bool:
    """Whether the text is a sha256 in hexadecimal. A registry can hold any text in its place."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _parse_manifest(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest, and the sha256 by file name in it. Raises ArtifactError KIND_damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = {str(name): str(digest) for name, digest in manifest["files"].items()}
        if not {"kind", "format_version"} <= manifest.keys():
            raise KeyError("kind and format_version are required")
        for name in files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name!r} is not a file of this folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{kind}_damaged",
            f"{MANIFEST} cannot be read ({error})",
            where=str(path),
            hint="copy it or write it again",
        ) from error
    return manifest, files


def _check_hashes(path: Path, kind: str, files: Mapping[str, str]) -> None:
    """Raises ArtifactError KIND_hash unless the folder holds the listed files and no others, hidden ones aside."""
    hint = "copy it or write it again: it was changed or damaged after it was written"
    for name, digest in files.items():
        if not (path / name).is_file() or sha256_file(path / name) != digest:
            what = f"{name} is missing or differs from its recorded sha256"
            raise ArtifactError(f"{kind}_hash", what, where=str(path), hint=hint)
    for file in path.rglob("[!.]*"):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name not in files and name not in _UNLISTED:
            what = f"{MANIFEST} has no sha256 of {name}"
            raise ArtifactError(f"{kind}_hash", what, where=str(path), hint=hint)


def bundle_digest(bundle: Path) -> str:
    """Identity of a bundle: the sha256 of its manifest, which holds the sha256 of every file. Raises ArtifactError."""
    manifest = bundle / MANIFEST
    if not manifest.is_file():
        raise ArtifactError("bundle_missing", f"no bundle here: {MANIFEST} is missing", where=str(bundle))
    return sha256_file(manifest)


def git_commit(folder: Path | None = None) -> str:
    """Commit of the checkout that holds this code, with '-dirty' if it has changes; 'unknown' outside git."""
    where = folder or Path(__file__).resolve().parent
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return out.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of Python, vcfbert and those packages that affect results, as far as they are installed."""
    from importlib import metadata  # here, because imputation does without it

    found = {"python": platform.python_version(), "vcfbert": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def provenance() -> dict[str, object]:
    """The section ``provenance`` of every manifest."""
    return {"git_commit": git_commit(), "packages": package_versions()}
