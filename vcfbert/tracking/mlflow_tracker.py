"""Runs, metrics and models in MLflow.

MLflow takes seconds to import, so modules of this room import it inside functions, when it is first needed.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcfbert import __version__
from vcfbert.artifacts import bundle_digest, git_commit
from vcfbert.constants import VARIANT_COLOURS
from vcfbert.errors import VcfbertError
from vcfbert.tracker import NullTracker, Tracker, check_metric_names
from vcfbert.tracking.store import connect, project_root, store_lock

if TYPE_CHECKING:
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

EXPERIMENT = "vcfbert"
SYSTEM_METRICS_SECONDS = 5.0
BUNDLE_ARTIFACT = "bundle"  # key of the bundle's folder among the MLflow model's artifacts
BUNDLE_DIGEST_TAG = "bundle_digest"
SIGNATURE_TAG = "bundle_signature"  # hexadecimal, of a registered version whose bundle is signed
_PARENT_TAG = "mlflow.parentRunId"

_MAX_VALUE = 500  # characters of a parameter; older MLflow servers accept no more
_PARAMS_A_REQUEST = 100
_METRICS_A_REQUEST = 1000
_REQUIREMENTS = ("mlflow", "numpy", "torch", "faiss-cpu", "safetensors", "cyvcf2", "pysam")


class MlflowTracker:
    """Records in MLflow. ``root`` is the project's folder, which holds the default store.
    ``system_metrics``: whether to sample CPU, memory, disk, network and GPU use every ``system_metrics_seconds``.

    If a server stops answering, training continues. The figures are sent with the next call.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        experiment: str = EXPERIMENT,
        system_metrics: bool = True,
        system_metrics_seconds: float = SYSTEM_METRICS_SECONDS,
    ) -> None:
        self._root = root or project_root()
        self._experiment = experiment
        self._system_metrics = system_metrics
        self._system_metrics_seconds = system_metrics_seconds
        self._run_id = ""
        self._waiting: list[Metric] = []
        self._non_finite: dict[str, int] = {}

    @contextmanager
    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> Iterator[str]:
        mlflow = connect(self._root)
        experiment_id = _experiment_id(self._root, self._experiment)
        known = _known_run(run_id)
        if run_id and known is None:
            log.warning("run %s is not in %s: a new run is started", run_id, mlflow.get_tracking_uri())
        mlflow.set_system_metrics_sampling_interval(self._system_metrics_seconds)
        with mlflow.start_run(
            run_id=run_id if known is not None else None,
            experiment_id=experiment_id,
            run_name=None if known is not None else name,
            nested=parent is not None,
            tags={_PARENT_TAG: parent} if parent else None,
            log_system_metrics=self._system_metrics,
        ) as run:
            self._run_id, self._waiting, self._non_finite = run.info.run_id, [], {}
            try:
                # MLflow itself may give two runs similar colours.
                colour = VARIANT_COLOURS.get(tags.get("variant", ""))
                mlflow.set_tags({"git_commit": git_commit(), **tags} | ({"mlflow.runColor": colour} if colour else {}))
                self._log_params(params, known or {})
                yield self._run_id
            finally:
                self._flush()
                if self._waiting:
                    log.warning("%d figures could not be recorded in MLflow", len(self._waiting))
                self._run_id = ""

    def _log_params(self, params: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Logs the parameters. MLflow forbids changes, so a continued run keeps those that it started with."""
        import mlflow

        flat = {key: value for key, value in flatten(params).items() if key not in known}
        keys = list(flat)
        for first in range(0, len(keys), _PARAMS_A_REQUEST):
            mlflow.log_params({key: flat[key] for key in keys[first : first + _PARAMS_A_REQUEST]})
        if params and not known:
            mlflow.log_dict(_plain(params), "params.json")  # unabridged: long values are cut above

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        check_metric_names(metrics)
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        now = time.time_ns() // 1_000_000
        self._waiting += [Metric(name, value, now, step) for name, value in finite.items()]
        self._flush()
        dropped = {name: step for name in metrics if name not in finite and name not in self._non_finite}
        if dropped:
            self._non_finite |= dropped
            text = ", ".join(f"{name} from step {first}" for name, first in self._non_finite.items())
            log.warning("figures that are not finite are not recorded: %s", text)
            self.set_tags({"warning.non_finite": text})

    def _flush(self) -> None:
        import mlflow

        while self._waiting:
            try:
                mlflow.MlflowClient().log_batch(self._run_id, metrics=self._waiting[:_METRICS_A_REQUEST])
            except mlflow.MlflowException as error:
                log.warning("MLflow does not answer; %d figures wait: %s", len(self._waiting), error)
                return
            del self._waiting[:_METRICS_A_REQUEST]

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        import mlflow

        mlflow.log_artifact(str(path), folder)

    def log_bundle(self, bundle: Path, variant: str) -> str:
        """Logs the bundle as a model from code: the class in ``pyfunc.py``, with the folder as its artifact."""
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        tags = {"variant": variant, BUNDLE_DIGEST_TAG: bundle_digest(bundle)}
        target, output = ColSpec(DataType.string, "target"), ColSpec(DataType.string, "output")
        # MLflow asks for an input example, which would be a VCF. It overrides filters by message, so all are recorded.
        with warnings.catch_warnings(record=True):
            info = mlflow.pyfunc.log_model(
                name=variant,
                python_model=str(Path(__file__).with_name("pyfunc.py")),
                artifacts={BUNDLE_ARTIFACT: str(bundle.resolve())},
                signature=ModelSignature(inputs=Schema([target, output]), outputs=Schema([output])),
                pip_requirements=pip_requirements(),
                tags=tags,
            )
        self.set_tags({BUNDLE_DIGEST_TAG: tags[BUNDLE_DIGEST_TAG], "model_uri": info.model_uri})
        return str(info.model_uri)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        import mlflow

        mlflow.set_tags(dict(tags))


def open_tracker(root: Path | None = None, *, enabled: bool = True, system_metrics: bool = True) -> Tracker:
    """A tracker for MLflow, or one that records nothing if not ``enabled``."""
    return MlflowTracker(root, system_metrics=system_metrics) if enabled else NullTracker()


def close_run(run_id: str, tags: Mapping[str, str], root: Path | None = None) -> None:
    """Ends a run as FAILED after its process died and no other will continue it. A missing run only gives a warning."""
    mlflow = connect(root or project_root())
    client = mlflow.MlflowClient()
    try:
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        client.set_terminated(run_id, "FAILED")
    except mlflow.MlflowException as error:
        log.warning("run %s could not be ended: %s", run_id, error)


def _experiment_id(root: Path, name: str) -> str:
    """The id of the experiment, which is created if missing. Raises VcfbertError if the store cannot be used."""
    import mlflow

    # A server itself decides where artifacts go.
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    location = (root.resolve() / "mlartifacts").as_uri() if local else None
    try:
        with store_lock(root, "schema"):  # two processes must not create the SQLite schema at once
            found = mlflow.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "active":
                return str(found.experiment_id)
            if found is not None:
                mlflow.MlflowClient().restore_experiment(found.experiment_id)
                return str(found.experiment_id)
            return str(mlflow.create_experiment(name, artifact_location=location))
    except mlflow.MlflowException as error:
        raise VcfbertError(
            "tracking_unavailable",
            f"MLflow cannot be used: {error}",
            where=mlflow.get_tracking_uri(),
            hint="check MLFLOW_TRACKING_URI, or unset it to record in the project's own mlflow.db",
        ) from error


def _known_run(run_id: str | None) -> dict[str, str] | None:
    """The parameters of a run that can be continued; None if there is no such run."""
    import mlflow

    if not run_id:
        return None
    try:
        run = mlflow.get_run(run_id)
    except mlflow.MlflowException:
        return None
    return dict(run.data.params) if run.info.lifecycle_stage == "active" else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"train": {"lr": 0.1}}`` -> ``{"train.lr": "0.1"}``; a text over 500 characters is cut and ends with '...'."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = str(value)
            flat[f"{prefix}{key}"] = text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."
    return flat


def _plain(value: Any) -> Any:
    """The value in types of JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def pip_requirements() -> list[str]:
    """Requirements of the logged model, at the versions that wrote it, without build suffixes such as +cpu."""
    requirements = [f"vcfbert=={__version__}"]
    for name in _REQUIREMENTS:
        try:
            requirements.append(f"{name}=={version(name).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return requirements
