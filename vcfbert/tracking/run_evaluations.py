"""Stores evaluations with the MLflow run that trained the model: the report and its R2 sums.

They are artifacts in the run's folder ``evaluation``, so runs and registered versions can be compared from any machine.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vcfbert.artifacts import write_json
from vcfbert.errors import VcfbertError
from vcfbert.metrics.r2_sums import R2Sums, read_r2_sums
from vcfbert.tracking.store import NOT_FOUND, connect

log = logging.getLogger(__name__)

REPORT, R2_SUMS = "report.json", "moments.npz"
_FOLDER = "evaluation"


def keep_evaluation(run_id: str, files: Mapping[str, Path], root: Path) -> bool:
    """Copies ``files``, by their names REPORT and R2_SUMS, to the run.

    Returns False, with a warning, if the run is not in this store: DVC may restore a model trained elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        for name, path in files.items():
            shutil.copyfile(path, Path(folder) / name)
        return _log(run_id, Path(folder), root)


def keep_table(run_id: str, name: str, table: Mapping[str, Any], root: Path) -> bool:
    """Writes ``table`` as JSON beside the run's evaluation. Returns as ``keep_evaluation``."""
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        write_json(Path(folder) / name, table)
        return _log(run_id, Path(folder), root)


def kept_r2_sums(run_id: str, root: Path) -> R2Sums | None:
    """The R2 sums of the run's evaluation; None without them. Raises VcfbertError if the store cannot be read."""
    with _fetched(run_id, R2_SUMS, root) as path:
        return None if path is None else read_r2_sums(path)


def kept_report(run_id: str, root: Path) -> dict[str, Any] | None:
    """The report of the run's evaluation; None without one. Raises VcfbertError if the store cannot be read."""
    with _fetched(run_id, REPORT, root) as path:
        return None if path is None else json.loads(path.read_text())


def _log(run_id: str, folder: Path, root: Path) -> bool:
    mlflow = connect(root)
    client = mlflow.MlflowClient()
    if not run_id or not _has_run(client, mlflow, run_id):
        log.warning("run %s is not in %s: its evaluation is not stored there", run_id or "?", mlflow.get_tracking_uri())
        return False
    client.log_artifacts(run_id, str(folder), _FOLDER)
    return True


def _has_run(client: Any, mlflow: Any, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code in NOT_FOUND:
            return False
        raise
    return True


@contextmanager
def _fetched(run_id: str, name: str, root: Path) -> Iterator[Path | None]:
    """The run's file, in a folder that exists as long as the ``with`` block; None if the run has no such file."""
    mlflow = connect(root)
    client = mlflow.MlflowClient()
    path = f"{_FOLDER}/{name}"
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        if not run_id or not _has_run(client, mlflow, run_id):
            yield None
            return
        try:
            listed = {item.path for item in client.list_artifacts(run_id, _FOLDER)}
            found = Path(client.download_artifacts(run_id, path, folder)) if path in listed else None
        except (mlflow.MlflowException, OSError) as error:
            raise VcfbertError(
                "tracking_unavailable",
                f"{path} of run {run_id} cannot be read: {error}",
                where=mlflow.get_tracking_uri(),
                hint="check MLFLOW_TRACKING_URI and where the store keeps artifacts",
            ) from error
        yield found
