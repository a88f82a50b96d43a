from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from vcfbert.artifacts import bundle_digest, sha256_file
from vcfbert.errors import ArtifactError, InputError, VcfbertError
from vcfbert.tracking.mlflow_tracker import MlflowTracker
from vcfbert.tracking.model_cache import cached_versions, fetch, look_up, look_up_cached, resolve
from vcfbert.tracking.promotion import Candidate, publish
from vcfbert.tracking.registry import champion, register
from vcfbert.tracking.store import check_reachable

# Each test fills an MLflow database of its own: seconds of work.
pytestmark = pytest.mark.integration


def bundle(root: Path, variant: str, content: str = "weights") -> Path:
    folder = root / "models" / variant
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_text(content)
    write_manifest(folder, variant=variant)
    return folder


def write_manifest(folder: Path, **values: str) -> None:
    files = {"weights.safetensors": sha256_file(folder / "weights.safetensors")}
    text = json.dumps({"kind": "bundle", "format_version": 1, "files": files, **values})
    (folder / "manifest.json").write_text(text)


def candidates(root: Path, content: str = "weights", data: str = "", **r2: float) -> dict[str, Candidate]:
    return {v: Candidate(bundle(root, v, content), {"r2": value}, data_digest=data) for v, value in r2.items()}


GATE = {"name": "vcfbert", "alias": "champion", "metric": "r2", "minimum": 0.5}


def test_publish_makes_the_best_variant_champion_with_reason(root: Path) -> None:
    done = publish(candidates(root, v17=0.85, v18=0.875), root=root, **GATE)
    assert (done.version.variant, done.version.number, done.changed) == ("v18", 1, True)
    version = mlflow.MlflowClient().get_model_version_by_alias("vcfbert", "champion")
    assert version.tags["variant"] == "v18"
    assert version.tags["metric_value"] == "0.875"
    assert version.tags["why"] == "v18 has r2 0.8750 (v17 0.8500), at least 0.5; first of this alias"
    assert champion("vcfbert", "champion", root=root) == done.version


def test_register_uses_the_model_of_the_training_run(root: Path) -> None:
    folder = bundle(root, "v18")
    tracker = MlflowTracker(root, system_metrics=False)
    with tracker.start("v18", {}, {"variant": "v18"}) as run_id:
        uri = tracker.log_bundle(folder, "v18")
    publish({"v18": Candidate(folder, {"r2": 0.9}, uri)}, root=root, **GATE)
    version = mlflow.MlflowClient().get_model_version("vcfbert", "1")
    assert version.run_id == run_id
    assert len(mlflow.search_runs(experiment_names=["vcfbert"])) == 1


def test_register_logs_a_bundle_from_another_store(root: Path) -> None:
    folder = bundle(root, "v18")
    tracker = MlflowTracker(root, system_metrics=False)
    with tracker.start("v17", {}, {"variant": "v17"}):
        other = tracker.log_bundle(bundle(root, "v17"), "v17")
    for version, uri in enumerate(("models:/m-" + "0" * 32, other), start=1):
        write_manifest(folder, version=str(version))
        done = publish({"v18": Candidate(folder, {"r2": 0.9}, uri)}, root=root, **GATE)
        assert done.version.number == version
        assert bundle_digest(resolve(f"models:/vcfbert/{version}", root=root, cache=root)) == bundle_digest(folder)
    assert len(mlflow.search_runs(filter_string="tags.variant LIKE 'v%'", experiment_names=["vcfbert"])) == 1


def test_publish_of_the_champions_bundle_changes_nothing(root: Path) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    again = publish(candidates(root, v18=0.9), root=root, **GATE)
    assert (again.version.number, again.changed) == (1, False)
    assert len(mlflow.MlflowClient().search_model_versions("name = 'vcfbert'")) == 1


@pytest.mark.parametrize(
    ("value", "words"), [(0.49, "the minimum for publishing is 0.5"), (0.89, "below the 0.9000 of champion version 1")]
)
def test_gate_refuses_below_minimum_or_champion(root: Path, value: float, words: str) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    with pytest.raises(InputError, match=words) as caught:
        publish(candidates(root, "other", v17=value), root=root, **GATE)
    assert caught.value.code == "gate_refused"
    assert champion("vcfbert", "champion", root=root).variant == "v18"  # type: ignore[union-attr]
    assert len(mlflow.MlflowClient().search_model_versions("name = 'vcfbert'")) == 1


def test_better_bundle_gets_the_alias_and_republishing_reuses_its_version(root: Path) -> None:
    first = publish(candidates(root, v17=0.8), root=root, **GATE)
    second = publish(candidates(root, v18=0.9), root=root, **GATE)
    assert (first.version.number, second.version.number) == (1, 2)
    assert second.version.why.endswith("not below the 0.8000 of version 1 (v17)")
    back = register(root / "models" / "v17", variant="v17", value=0.8, root=root, **GATE)
    assert back.number == 1
    assert champion("vcfbert", "champion", root=root).variant == "v17"  # type: ignore[union-attr]


def test_figures_on_other_data_are_not_compared(root: Path) -> None:
    publish(candidates(root, data="chr20", v18=0.9), root=root, **GATE)
    done = publish(candidates(root, "other", data="chr22", v18=0.7), root=root, **GATE)
    assert done.version.number == 2
    assert "not compared with version 1" in done.version.why
    with pytest.raises(InputError, match=r"below the 0\.7"):
        publish(candidates(root, "third", data="chr22", v18=0.6), root=root, **GATE)


@pytest.mark.parametrize("figures", [{}, {"r2": float("nan")}])
def test_candidate_without_the_metric_is_refused(root: Path, figures: dict[str, float]) -> None:
    with pytest.raises(InputError, match="v17 has no figure 'r2'") as caught:
        publish({"v18": Candidate(root, {"r2": 0.9}), "v17": Candidate(root, figures)}, root=root, **GATE)
    assert caught.value.code == "metric_missing"


def test_resolve_downloads_a_bundle_once(root: Path, tmp_path: Path) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    cache = tmp_path / "cache"
    folder = resolve("models:/vcfbert@champion", root=root, cache=cache)
    assert bundle_digest(folder) == bundle_digest(root / "models" / "v18")
    assert (folder / "weights.safetensors").read_text() == "weights"
    shutil.rmtree(root / "mlartifacts")  # a second download would fail
    assert resolve("models:/vcfbert/1", root=root, cache=cache) == folder
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name]
    assert resolve(str(root / "models" / "v18")) == root / "models" / "v18"


def test_changed_cached_bundle_is_refused(root: Path, tmp_path: Path) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    folder = resolve("models:/vcfbert@champion", root=root, cache=tmp_path / "cache")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        resolve("models:/vcfbert@champion", root=root, cache=tmp_path / "cache")
    assert caught.value.code == "bundle_hash"


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("models:/vcfbert", "model_reference"),
        ("models:/vcfbert@a/b", "model_reference"),
        ("models:/vcfbert@challenger", "model_not_found"),
        ("models:/vcfbert/7", "model_not_found"),
        ("models:/nobody@champion", "model_not_found"),
    ],
)
def test_missing_model_is_named(root: Path, reference: str, code: str) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    with pytest.raises(InputError) as caught:
        resolve(reference, root=root, cache=root / "cache")
    assert caught.value.code == code


def test_reading_without_store_creates_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError) as caught:
        resolve("models:/vcfbert@champion", root=tmp_path)
    assert caught.value.code == "no_tracking_store"
    assert list(tmp_path.iterdir()) == []


def test_last_version_of_an_alias_is_known_without_registry(root: Path, tmp_path: Path) -> None:
    cache, alias = tmp_path / "cache", "models:/vcfbert@champion"
    assert look_up_cached(alias, cache=cache) is None
    publish(candidates(root, v17=0.8), root=root, **GATE)
    first = look_up(alias, root=root, cache=cache)
    assert look_up_cached(alias, cache=cache) is None  # looked up, not downloaded
    folder = fetch(first, root=root, cache=cache)
    publish(candidates(root, v18=0.9), root=root, **GATE)
    resolve(alias, root=root, cache=cache)
    assert [version.number for version in cached_versions("vcfbert", cache=cache)] == [2, 1]
    register(root / "models" / "v17", variant="v17", value=0.8, root=root, **GATE)
    assert look_up(alias, root=root, cache=cache) == first  # the alias went back
    assert look_up_cached(alias, cache=cache) == first
    shutil.rmtree(folder)
    assert look_up_cached(alias, cache=cache).number == 2  # type: ignore[union-attr]
    assert look_up_cached("models:/vcfbert/2", cache=cache).number == 2  # type: ignore[union-attr]
    assert look_up_cached("models:/vcfbert/1", cache=cache) is None


def test_cached_version_needs_no_registry(root: Path, tmp_path: Path) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    version = look_up("models:/vcfbert/1", root=root, cache=tmp_path / "cache")
    folder = fetch(version, root=root, cache=tmp_path / "cache")
    (root / "mlflow.db").unlink()
    assert fetch(version, root=root, cache=tmp_path / "cache") == folder


def test_cached_versions_ignore_models_with_the_same_prefix(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(candidates(root, v18=0.9), root=root, **{**GATE, "name": "vcfbert-7"})
    resolve("models:/vcfbert-7/1", root=root, cache=cache)
    assert cached_versions("vcfbert", cache=cache) == []
    assert [version.number for version in cached_versions("vcfbert-7", cache=cache)] == [1]


def test_unreachable_server_is_reported_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(VcfbertError) as caught:
        look_up("models:/vcfbert@champion", root=tmp_path, cache=tmp_path)
    assert caught.value.code == "registry_unavailable"
    assert time.monotonic() - started < 5
    assert "secret" not in str(caught.value)


def test_server_that_does_not_answer_is_unavailable() -> None:
    with socket.socket() as silent:  # accepts connections and sends nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        with pytest.raises(VcfbertError) as caught:
            check_reachable(f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
    assert caught.value.code == "registry_unavailable"
    assert "secret" not in str(caught.value)


def test_server_that_asks_for_a_password_counts_as_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Asks) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        check_reachable(f"http://user:secret@127.0.0.1:{server.server_port}/")
        thread.join(5)
