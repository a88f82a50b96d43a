"""What is to be compared: evaluations from report files, and from MLflow's runs and registered versions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcfbert.errors import InputError
from vcfbert.metrics.r2_sums import R2Sums, read_moments
from vcfbert.tracking.mlflow_tracker import EXPERIMENT
from vcfbert.tracking.model_cache import look_up
from vcfbert.tracking.run_evaluations import kept_moments, kept_report
from vcfbert.tracking.store import open_registry

_REPORT_HINT = "give a report that the `evaluate` stage wrote, such as reports/evaluate/v18.json"
_RUN_HINT = "`dvc repro evaluate` keeps a run's evaluation with it; `make ui` shows the runs"
_RUN_ID = re.compile("[0-9a-f]{32}")
_NAMESAKES = 20  # runs of one name that are looked through, the newest first


@dataclass(frozen=True)
class Evaluated:
    """An evaluation's report and, where it has them, moments. ``origin`` tells it from others of its variant."""

    report: dict[str, Any]
    moments: R2Sums | None
    origin: str


def from_file(path: Path) -> Evaluated:
    """A report and, beside it, the moments: ``v18.json`` and ``v18.npz``."""
    moments = path.with_suffix(".npz")
    return Evaluated(read_report(path), read_moments(moments) if moments.is_file() else None, str(path.with_suffix("")))


def from_run(reference: str, root: Path) -> Evaluated:
    """The evaluation kept with a run: its id, its name (of several the newest that has one), or a registered version
    as models:/NAME@ALIAS or models:/NAME/VERSION. Raises InputError 'run_not_found', 'run_not_evaluated'."""
    for run_id in _run_ids(reference, root):
        report = kept_report(run_id, root)
        if report is not None:
            origin = reference if reference.startswith("models:") else run_id[:8]
            return Evaluated(report, kept_moments(run_id, root), origin)
    raise InputError("run_not_evaluated", f"run {reference} has no evaluation", hint=_RUN_HINT)


def told_apart(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Those whose variant is another one's too are named by their origin as well."""
    variants = [one.report.get("variant") for one in evaluated]
    return [
        one
        if variants.count(variant) == 1
        else Evaluated({**one.report, "variant": f"{variant} {one.origin}"}, one.moments, one.origin)
        for one, variant in zip(evaluated, variants, strict=True)
    ]


def read_report(path: Path) -> dict[str, Any]:
    """Raises InputError 'file_not_found', 'json_invalid'."""
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError("file_not_found", what, where=str(path), hint="check the path") from error
    except ValueError as error:
        raise InputError("json_invalid", f"not JSON: {error}", where=str(path), hint=_REPORT_HINT) from error
    if not isinstance(value, dict):
        raise InputError("json_invalid", "not a JSON object", where=str(path), hint=_REPORT_HINT)
    return value


def _run_ids(reference: str, root: Path) -> list[str]:
    mlflow = open_registry(root)
    client = mlflow.MlflowClient()
    if reference.startswith("models:"):
        return [look_up(reference, root=root).run_id]
    if _RUN_ID.fullmatch(reference):
        try:
            return [client.get_run(reference).info.run_id]
        except mlflow.MlflowException as error:
            raise _no_run(reference, mlflow) from error
    experiment = client.get_experiment_by_name(EXPERIMENT)
    wanted = reference.replace("'", "")  # which a filter cannot hold
    found = (
        client.search_runs(
            [experiment.experiment_id], f"attributes.run_name = '{wanted}'", max_results=_NAMESAKES,
            order_by=["attributes.start_time DESC"],
        )
        if experiment is not None
        else []
    )  # fmt: skip
    if not found:
        raise _no_run(reference, mlflow)
    return [run.info.run_id for run in found]


def _no_run(reference: str, mlflow: Any) -> InputError:
    return InputError("run_not_found", f"no run {reference}", where=mlflow.get_tracking_uri(), hint=_RUN_HINT)
