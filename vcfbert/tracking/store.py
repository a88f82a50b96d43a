"""Locates, opens and locks the project's MLflow store and its database of studies.

The MLflow store is at ``MLFLOW_TRACKING_URI`` if that is set. Otherwise it is SQLite in the project's folder:
``mlflow.db``, with artifacts in ``mlartifacts/``. In the library, only this module reads the environment.
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

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for a missing run, model or version
ANSWER_SECONDS = 5.0  # a server that takes longer is reported as unavailable


def project_root(start: Path | None = None) -> Path:
    """The nearest folder with a params.yaml, from ``start`` (default: the current folder) upwards; else ``start``."""
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "params.yaml").is_file()), start)


def tracking_uri(root: Path) -> str:
    """URI of the MLflow store: ``MLFLOW_TRACKING_URI`` if that is set, else SQLite in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def study_storage(root: Path | None = None) -> str:
    """URL of the database of studies: ``VCFBERT_STUDIES`` if that is set, else SQLite beside ``mlflow.db``."""
    return os.environ.get("VCFBERT_STUDIES") or f"sqlite:///{(root or project_root()).resolve() / 'studies.db'}"


def connect(root: Path, *, must_exist: bool = False) -> ModuleType:
    """The ``mlflow`` module, connected to the project's store.

    Raises InputError if the store ``must_exist`` and does not, MissingExtraError without MLflow.
    """
    uri = tracking_uri(root)
    database = Path(uri.removeprefix("sqlite:///"))
    if must_exist and uri.startswith("sqlite:///") and not database.is_file():
        raise InputError(
            "no_tracking_store",
            "there is no MLflow store",
            where=str(database),
            hint="run in the project's folder, or set MLFLOW_TRACKING_URI to your server",
        )
    # A tool for human genomes sends no telemetry. Users can still set the variable to false.
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

    for name in ("mlflow", "alembic"):  # their INFO lines would break our progress bars
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    return mlflow


def open_registry(root: Path) -> ModuleType:
    """The ``mlflow`` module, for reading.

    Raises InputError 'no_tracking_store' if there is no store yet, VcfbertError 'registry_unavailable' within seconds
    if a server does not answer.
    """
    check_reachable(tracking_uri(root))
    return connect(root, must_exist=True)


def check_reachable(uri: str, seconds: float = ANSWER_SECONDS) -> None:
    """Raises VcfbertError 'registry_unavailable' if a server does not answer within ``seconds``; MLflow tries for
    minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    uri = _without_password(uri)  # urlopen takes no password either; a server that refuses the request does answer
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=seconds):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # a server without this page may have all others
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
    """A lock between the processes of this project, one per ``purpose``. A thread must not take it twice."""
    path = root / f"mlflow.db.{purpose}.lock"
    try:
        handle = path.open("a")
    except OSError as error:
        raise output_error(error, path) from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
