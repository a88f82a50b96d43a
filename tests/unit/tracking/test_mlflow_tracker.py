from __future__ import annotations

import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mlflow
import pytest

from vcfbert.artifacts import bundle_digest
from vcfbert.errors import ArtifactError, InputError
from vcfbert.tracker import NullTracker
from vcfbert.tracking.mlflow_tracker import MlflowTracker, flatten, open_tracker
from vcfbert.tracking.store import project_root, tracking_uri

# Tests record runs in MLflow: seconds of work.
pytestmark = pytest.mark.integration


@pytest.fixture
def tracker(root: Path) -> MlflowTracker:
    return MlflowTracker(root, system_metrics=False)


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in mlflow.MlflowClient().get_metric_history(run_id, name)]


def test_run_records_params_tags_metrics_and_artifacts(root: Path, tracker: MlflowTracker) -> None:
    with tracker.start("v18", {"train": {"lr": 0.5}, "variant": "v18"}, {"variant": "v18"}) as run_id:
        tracker.log_metrics({"val/r2/0-0.5": 0.25, "train/loss": 2.0}, 0)
        seen_at_once = history(run_id, "train/loss")
        tracker.log_metrics({"train/loss": 1.0}, 1)
    run = mlflow.get_run(run_id)
    assert seen_at_once == [(0, 2.0)]
    assert history(run_id, "train/loss") == [(0, 2.0), (1, 1.0)]
    assert run.data.params == {"train.lr": "0.5", "variant": "v18"}
    assert run.data.tags["variant"] == "v18"
    assert "git_commit" in run.data.tags
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert mlflow.get_experiment(run.info.experiment_id).name == "vcfbert"


def test_run_after_exception_is_failed_with_its_metrics(tracker: MlflowTracker) -> None:
    def crash() -> None:
        with tracker.start("v17", {}, {}) as run_id:
            seen.append(run_id)
            tracker.log_metrics({"loss": 3.0}, 0)
            raise ZeroDivisionError

    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        crash()
    run_id = seen[0]
    assert mlflow.get_run(run_id).info.status == "FAILED"
    assert history(run_id, "loss") == [(0, 3.0)]


def test_killed_run_is_continued_by_its_id(root: Path, tracker: MlflowTracker) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from vcfbert.tracking.mlflow_tracker import MlflowTracker
        tracker = MlflowTracker(Path({str(root)!r}), system_metrics=False)
        with tracker.start("v18", {{"lr": 1}}, {{"variant": "v18"}}) as run_id:
            tracker.log_metrics({{"loss": 3.0}}, 0)
            print(run_id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    old = killed.stdout.split()[0]
    # A parameter that changed since (another number of workers, say) must not stop the run.
    with tracker.start("another name", {"lr": 2, "new": 1}, {}, run_id=old) as run_id:
        tracker.log_metrics({"loss": 2.0}, 1)
    run = mlflow.get_run(old)
    assert run_id == old
    assert history(old, "loss") == [(0, 3.0), (1, 2.0)]
    assert run.data.params == {"lr": "1", "new": "1"}
    assert (run.info.status, run.info.run_name) == ("FINISHED", "v18")


def test_continuing_an_unknown_run_starts_a_new_one(tracker: MlflowTracker) -> None:
    with tracker.start("v18", {}, {}, run_id="0" * 32) as run_id:
        pass
    assert run_id != "0" * 32
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_non_finite_figures_are_omitted_and_named_in_a_tag(tracker: MlflowTracker) -> None:
    with tracker.start("v18", {}, {}) as run_id:
        tracker.log_metrics({"loss": 1.0, "r2": math.nan}, 0)
        tracker.log_metrics({"loss": math.inf, "r2": math.nan}, 1)
    run = mlflow.get_run(run_id)
    assert history(run_id, "loss") == [(0, 1.0)]
    assert "r2" not in run.data.metrics
    assert run.data.tags["warning.non_finite"] == "r2 from step 0, loss from step 1"


@pytest.mark.parametrize("name", ["r2 (all)", "r2%", "", "maf<5", "a\nb"])
def test_invalid_metric_name_is_refused_before_logging(tracker: MlflowTracker, name: str) -> None:
    with tracker.start("v18", {}, {}) as run_id, pytest.raises(InputError, match="metric") as caught:
        tracker.log_metrics({"loss": 1.0, name: 1.0}, 0)
    assert caught.value.code == "metric_name"
    assert mlflow.get_run(run_id).data.metrics == {}


def test_figures_are_sent_when_the_server_answers_again(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise mlflow.MlflowException("no answer")

    with tracker.start("v18", {}, {}) as run_id:
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "log_batch", refuse)
            tracker.log_metrics({"loss": 3.0}, 0)
        tracker.log_metrics({"loss": 2.0}, 1)
    assert history(run_id, "loss") == [(0, 3.0), (1, 2.0)]


def test_many_and_long_params_are_accepted(tracker: MlflowTracker) -> None:
    params = {"many": {f"p{i}": i for i in range(250)}, "long": "x" * 7000}
    with tracker.start("v18", params, {}) as run_id:
        pass
    run = mlflow.get_run(run_id)
    assert len(run.data.params) == 251
    assert run.data.params["long"] == "x" * 497 + "..."
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/params.json")["long"] == "x" * 7000


def test_system_metrics_are_recorded(root: Path) -> None:
    with MlflowTracker(root, system_metrics_seconds=0.1).start("v18", {}, {}) as run_id:
        subprocess.run(["sleep", "1"], check=True)
    assert "system/cpu_utilization_percentage" in mlflow.get_run(run_id).data.metrics


def test_log_bundle_writes_a_model_without_pickle(tracker: MlflowTracker, tmp_path: Path) -> None:
    bundle = tmp_path / "models" / "v18"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    (bundle / "weights.safetensors").write_bytes(b"weights")
    with tracker.start("v18", {}, {"variant": "v18"}) as run_id:
        uri = tracker.log_bundle(bundle, "v18")
    folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "download")))
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"artifacts/v18/manifest.json", "artifacts/v18/weights.safetensors", "pyfunc.py", "MLmodel"} <= files
    assert not {name for name in files if name.endswith((".pkl", ".pickle"))}
    model = mlflow.get_logged_model(uri.removeprefix("models:/"))
    assert (model.tags["variant"], model.source_run_id) == ("v18", run_id)
    assert model.tags["bundle_digest"] == bundle_digest(bundle) == mlflow.get_run(run_id).data.tags["bundle_digest"]
    requirements = (folder / "requirements.txt").read_text()
    assert "vcfbert==" in requirements
    assert "+" not in requirements


def test_log_bundle_of_another_folder_is_refused(tracker: MlflowTracker, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught, tracker.start("v18", {}, {}):
        tracker.log_bundle(tmp_path, "v18")
    assert caught.value.code == "bundle_missing"


def test_null_tracker_records_nothing_and_checks_names(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, enabled=False)
    assert isinstance(tracker, NullTracker)
    assert isinstance(open_tracker(tmp_path), MlflowTracker)
    with tracker.start("v18", {}, {}) as run_id:
        tracker.log_metrics({"loss": 1.0}, 0)
        with pytest.raises(InputError):
            tracker.log_metrics({"loss!": 1.0}, 0)
    assert run_id == ""
    assert list(tmp_path.iterdir()) == []


def test_tracking_uri_is_environment_else_project_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert project_root(tmp_path / "deep" / "er") == tmp_path
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(tmp_path) == "http://mlflow:5000"


def test_flatten_joins_nested_names() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": (1, 2), "e": None}) == {"a.b.c": "1", "d": "(1, 2)", "e": "None"}


def test_import_of_tracking_does_not_import_mlflow() -> None:
    code = "import sys, vcfbert.tracking.mlflow_tracker, vcfbert.tracking.registry; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
