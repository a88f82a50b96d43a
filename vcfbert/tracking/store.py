"""The project's MLflow store and database of studies: where they are, how they are opened and locked.

The MLflow store is ``MLFLOW_TRACKING_URI`` where that is set, else SQLite in the project's folder: ``mlflow.db`` with
the artifacts under ``mlartifacts/``. This module alone reads the environment for the library.
"""

from __future__ import annotations

import fcntl
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType

from vcfbert.artifacts import output_error
from vcfbert.errors import InputError, MissingExtraError, VcfbertError

_ANSWER_SECONDS = 5.0  # a server that takes longer is reported as unavailable


def project_root(start: Path | None = None) -> Path:
    """The nearest folder, from ``start`` (default: the current one) upwards, that holds params.yaml; else ``start``."""
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "params.yaml").is_file()), start)


def tracking_uri(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def study_storage(root: Path | None = None) -> str:
    """URL of the database of studies: ``VCFBERT_STUDIES`` where that is set, else SQLite beside ``mlflow.db``."""
    return os.environ.get("VCFBERT_STUDIES") or f"sqlite:///{(root or project_root()).resolve() / 'studies.db'}"


def connect(root: Path, *, must_exist: bool = False) -> ModuleType:
    """The ``mlflow`` module, pointed at the project's store. Raises InputError where ``must_exist`` and it doesn't,
    MissingExtraError without MLflow."""
    uri = tracking_uri(root)
    database = Path(uri.removeprefix("sqlite:///"))
    if must_exist and uri.startswith("sqlite:///") and not database.is_file():
        raise InputError(
            "no_tracking_store",
            "no MLflow store here",
            where=str(database),
            hint="run in the project's folder, or set MLFLOW_TRACKING_URI to your server",
        )
    # Tools for people's genomes do not report home; who wants MLflow's telemetry can still set it to false.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "mlflow_missing",
            "MLflow is not installed",
            hint="pip install 'vcfbert[mlops]'; `vcfbert fit --no-track` trains without it",
        ) from error

    for name in ("mlflow", "alembic"):  # their INFO lines would run into our own progress bars
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    return mlflow


def open_registry(root: Path) -> ModuleType:
    """The ``mlflow`` module, to read with. Raises InputError 'no_tracking_store' where there is no store yet,
    VcfbertError 'registry_unavailable' within seconds where a server does not answer."""
    check_reachable(tracking_uri(root))
    return connect(root, must_exist=True)


def check_reachable(uri: str) -> None:
    """Raises 'registry_unavailable' where a server does not answer at once: MLflow itself tries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    uri = _without_password(uri)  # nor does the request below take one: a server that refuses it answers
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # a server that hides this page answers others
            return
        raise unavailable(f"it answers {error.code}", uri) from error
    except (OSError, ValueError, HTTPException) as error:
        raise unavailable(str(error), uri) from error


def unavailable(why: str, uri: str) -> VcfbertError:
    """The error of a registry that does not answer; the URI is shown without its password."""
    what, hint = f"the model registry cannot be used: {why}", "check MLFLOW_TRACKING_URI and whether the server runs"
    return VcfbertError("registry_unavailable", what, where=_without_password(uri), hint=hint)


def _without_password(uri: str) -> str:
    head, separator, rest = uri.partition("//")
    host, slash, path = rest.partition("/")
    return f"{head}{separator}{host.rpartition('@')[2]}{slash}{path}"


@contextmanager
def store_lock(root: Path, purpose: str) -> Iterator[None]:
    """One process of this project at a time for ``purpose``; not to be taken twice by the same thread."""
    path = root / f"mlflow.db.{purpose}.lock"
    try:
        handle = path.open("a")
    except OSError as error:
        raise output_error(error, path) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
