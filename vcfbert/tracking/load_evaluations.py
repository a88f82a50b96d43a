"""Loads the evaluations to compare: from report files, MLflow runs and registered versions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcfbert.errors import InputError
from vcfbert.metrics.r2_sums import R2Sums, read_r2_sums
from vcfbert.tracking.mlflow_tracker import EXPERIMENT
from vcfbert.tracking.model_cache import look_up
from vcfbert.tracking.run_evaluations import kept_r2_sums, kept_report
from vcfbert.tracking.store import open_registry

_REPORT_HINT = "give a report that the `evaluate` stage wrote, such as reports/evaluate/v18.json"
_RUN_HINT = "`dvc repro evaluate` stores an evaluation with its run; `make ui` shows the runs"
_RUN_ID = re.compile("[0-9a-f]{32}")
_MAX_NAMESAKES = 20  # runs of one name that are searched, newest first


@dataclass(frozen=True)
class Evaluated:
    """An evaluation's report and its R2 sums, if stored. ``origin`` distinguishes it from others of its variant."""

    report: dict[str, Any]
    r2_sums: R2Sums | None
    origin: str


def from_file(path: Path) -> Evaluated:
    """A report such as ``v18.json`` and, if it is there, ``v18.npz`` with the R2 sums beside it."""
    stored = path.with_suffix(".npz")
    return Evaluated(read_report(path), read_r2_sums(stored) if stored.is_file() else None, str(path.with_suffix("")))


def from_run(reference: str, root: Path) -> Evaluated:
    """The evaluation stored with a run.

    ``reference`` is the run's id, its name, or a registered version as models:/NAME@ALIAS or models:/NAME/VERSION. Of
    several runs of one name, the newest with an evaluation is used. Raises InputError 'run_not_found',
    'run_not_evaluated'.
    """
    for run_id in _run_ids(reference, root):
        report = kept_report(run_id, root)
        if report is not None:
            origin = reference if reference.startswith("models:") else run_id[:8]
            return Evaluated(report, kept_r2_sums(run_id, root), origin)
    raise InputError("run_not_evaluated", f"run {reference} has no evaluation", hint=_RUN_HINT)


def with_distinct_names(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """The evaluations; the origin is added to the variant of those that share their variant with another."""
    variants = [one.report.get("variant") for one in evaluated]
    return [
        one
        if variants.count(variant) == 1
        else Evaluated({**one.report, "variant": f"{variant} {one.origin}"}, one.r2_sums, one.origin)
        for one, variant in zip(evaluated, variants, strict=True)
    ]


def read_report(path: Path) -> dict[str, Any]:
    """The report in a JSON file. Raises InputError 'file_not_found', 'json_invalid'."""
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
    wanted = reference.replace("'", "")  # a filter cannot hold quotes
    found = (
        client.search_runs(
            [experiment.experiment_id], f"attributes.run_name = '{wanted}'", max_results=_MAX_NAMESAKES,
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
