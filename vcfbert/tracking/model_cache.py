"""Caches registered bundles on this machine: downloads each once, checks its digest, works without the registry."""

from __future__ import annotations

import glob
import json
import re
from contextlib import suppress
from pathlib import Path

from vcfbert.artifacts import MANIFEST, bundle_digest, is_digest, write_json
from vcfbert.errors import ArtifactError, VcfbertError
from vcfbert.tracking.model_download import add_signature, check_registered, download
from vcfbert.tracking.registry import ModelReference, RegisteredVersion, find_version
from vcfbert.tracking.store import open_registry, project_root

_FOLDER = re.compile(r"(?P<number>\d+)-(?P<digest>[0-9a-f]{1,16})")  # folder of a cached bundle, after the model's name


def resolve(reference: str, *, root: Path | None = None, cache: Path | None = None) -> Path:
    """The local bundle folder of ``reference``: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a folder.

    A registered bundle is downloaded once, into ``cache`` (default ``~/.cache/vcfbert/models``).
    Raises InputError if there is no such model, ArtifactError if the download differs from the registered bundle.
    """
    if not reference.startswith("models:"):
        return Path(reference)
    return fetch(look_up(reference, root=root, cache=cache), root=root, cache=cache)


def look_up(reference: str, *, root: Path | None = None, cache: Path | None = None) -> RegisteredVersion:
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` refers to now; nothing is downloaded.

    The version of an alias is stored in ``cache``. Raises InputError if there is no such model, VcfbertError
    'registry_unavailable' within seconds if a server does not answer.
    """
    model = ModelReference.parse(reference)
    version = find_version(open_registry(root or project_root()), model)
    if model.alias is not None:
        memo = _memo(cache or default_cache(), model.name, model.alias)
        if _recall(memo, model.name) != version:
            with suppress(VcfbertError):  # `fetch` reports a cache that cannot be written
                write_json(memo, {"number": version.number, "digest": version.bundle_digest})
    return version


def look_up_cached(reference: str, *, cache: Path | None = None) -> RegisteredVersion | None:
    """The version of ``reference`` by the cache alone, for when the registry does not answer.

    An alias gives the version that it last had on this machine, else the newest one. None if no such bundle is cached.
    """
    model = ModelReference.parse(reference)
    cache = cache or default_cache()
    cached = cached_versions(model.name, cache=cache)
    if model.alias is None:
        return next((version for version in cached if version.number == model.number), None)
    last = _recall(_memo(cache, model.name, model.alias), model.name)
    return last if last in cached else next(iter(cached), None)


def cached_versions(name: str, *, cache: Path | None = None) -> list[RegisteredVersion]:
    """The versions of a model whose bundles are in ``cache``, the newest first."""
    found = []
    for folder in (cache or default_cache()).glob(f"{glob.escape(name)}-*"):
        match = _FOLDER.fullmatch(folder.name.removeprefix(f"{name}-"))
        if match is not None and (folder / MANIFEST).is_file():
            digest = bundle_digest(folder)
            if digest.startswith(match["digest"]):
                found.append(RegisteredVersion(name, int(match["number"]), digest))
    return sorted(found, key=lambda version: version.number, reverse=True)


def fetch(version: RegisteredVersion, *, root: Path | None = None, cache: Path | None = None) -> Path:
    """The version's bundle folder in ``cache``, downloaded if missing.

    Raises ArtifactError 'bundle_hash' if it differs from the registered bundle, 'model_path' if the registry's entry
    names files outside the artifact store, VcfbertError 'registry_unavailable'.
    """
    if not is_digest(version.bundle_digest):
        what = f"{version.reference} has no digest of a bundle"
        raise ArtifactError("bundle_hash", what, hint="register the bundle again")
    folder = (cache or default_cache()) / f"{version.name}-{version.number}-{version.bundle_digest[:16]}"
    if not folder.is_dir():
        download(open_registry(root or project_root()), version, folder)
    check_registered(folder, version)
    add_signature(folder, version.signature)  # a version may be signed after it was cached
    return folder


def default_cache() -> Path:
    """The folder of downloaded bundles, of the command line and of the service."""
    return Path.home() / ".cache" / "vcfbert" / "models"


def _memo(cache: Path, name: str, alias: str) -> Path:
    return cache / f"{name}@{alias}.json"


def _recall(memo: Path, name: str) -> RegisteredVersion | None:
    try:
        last = json.loads(memo.read_text())
        return RegisteredVersion(name, int(last["number"]), str(last["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
