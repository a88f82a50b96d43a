"""Downloads a registered bundle beside the cache, checks it there, and renames it into the cache.

The registry's entries name paths. Only files below the downloaded model, and model sources inside the artifact store,
are read; nothing outside is moved or changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vcfbert.artifacts import DISK_FULL, MANIFEST, SIGNATURE, atomic_file, bundle_digest, check_files, output_error
from vcfbert.errors import ArtifactError
from vcfbert.tracking.mlflow_tracker import BUNDLE_ARTIFACT, SIGNATURE_TAG
from vcfbert.tracking.registry import RegisteredVersion
from vcfbert.tracking.store import unavailable

_LOCAL_SCHEMES = ("", "file")


def download(mlflow: Any, version: RegisteredVersion, folder: Path) -> None:
    """Downloads the version's bundle to ``folder``, which appears whole and checked or not at all.

    Raises ArtifactError 'bundle_hash' and 'model_path', VcfbertError 'registry_unavailable', or InputError and
    DiskFullError where the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise output_error(error, folder) from error
    try:
        bundle = _bundle_of(_download_model(mlflow, version, temporary), temporary, version)
        check_registered(bundle, version)
        check_files(bundle, "bundle")
        tags = mlflow.MlflowClient().get_model_version(version.name, str(version.number)).tags
        add_signature(bundle, tags.get(SIGNATURE_TAG, ""))
        os.replace(bundle, folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster
            raise output_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_registered(bundle: Path, version: RegisteredVersion) -> None:
    """Raises ArtifactError 'bundle_hash' if the folder is not the bundle that was registered."""
    if not (bundle / MANIFEST).is_file() or bundle_digest(bundle) != version.bundle_digest:
        raise ArtifactError(
            "bundle_hash",
            f"not the bundle that was registered as {version.reference}",
            where=str(bundle),
            hint="remove the folder; the next call downloads it again",
        )


def add_signature(bundle: Path, signature: str) -> None:
    """Writes the signature that the registry has of a version beside its bundle's manifest.

    A bundle may be signed after it was logged. A text that is no signature is left to whoever checks it.
    """
    with suppress(ValueError):
        content = bytes.fromhex(signature)
        if content and not (bundle / SIGNATURE).is_file():
            with atomic_file(bundle / SIGNATURE) as temporary:
                temporary.write_bytes(content)


def _download_model(mlflow: Any, version: RegisteredVersion, temporary: Path) -> Path:
    """The folder of the downloaded MLflow model, below ``temporary``."""
    try:
        _check_source(mlflow, version)
        return Path(mlflow.artifacts.download_artifacts(version.reference, dst_path=str(temporary)))
    except mlflow.MlflowException as error:
        raise unavailable(f"{version.reference} cannot be downloaded", mlflow.get_tracking_uri()) from error
    except OSError as error:  # network or disk
        if error.errno in DISK_FULL:
            raise
        raise unavailable(f"{version.reference} cannot be downloaded", mlflow.get_tracking_uri()) from error


def _check_source(mlflow: Any, version: RegisteredVersion) -> None:
    """Raises ArtifactError 'model_path' if the version's files are local and outside the store's artifacts."""
    client = mlflow.MlflowClient()
    source = _local_path(client.get_model_version_download_uri(version.name, str(version.number)))
    if source is None:
        return
    locations = (_local_path(experiment.artifact_location) for experiment in client.search_experiments())
    if not any(location is not None and source.is_relative_to(location) for location in locations):
        raise _outside(version, str(source))


def _local_path(uri: str) -> Path | None:
    """The path on this machine that the URI names, without symbolic links; None if it names another place."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)).resolve() if parts.scheme in _LOCAL_SCHEMES else None


def _bundle_of(model: Path, temporary: Path, version: RegisteredVersion) -> Path:
    """The bundle's folder inside the downloaded model. Raises ArtifactError 'model_path' if it is anywhere else."""
    from mlflow.models import Model

    try:
        named = str(Model.load(str(model)).flavors["python_function"]["artifacts"][BUNDLE_ARTIFACT]["path"])
    except (KeyError, TypeError, ValueError) as error:
        raise _outside(version, "its MLmodel file names no bundle") from error
    bundle = model / named
    whole = temporary.resolve()
    links = (path for path in (bundle, *bundle.rglob("*")) if path.is_symlink())
    if not bundle.resolve().is_relative_to(whole) or bundle.resolve() == whole or any(links):
        raise _outside(version, named)
    return bundle


def _outside(version: RegisteredVersion, path: str) -> ArtifactError:
    return ArtifactError(
        "model_path",
        f"the entry of {version.reference} names files outside the registry's artifact store: {path}",
        hint="register the bundle with `dvc repro publish` or from Python; check who can write to the registry",
    )
