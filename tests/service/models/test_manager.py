from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.http.metrics import Metrics
from service.models.bundles import BundleSource
from service.models.manager import ModelsManager, ReloadRefusedError
from service.models.version import FolderVersion, ModelVersion
from service.settings import Settings
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import FIRST, SECOND, StubSource, call, registry_down, settings, with_client
from vcfbert.errors import ArtifactError, InputError, ResourceError, VcfbertError
from vcfbert.tracking.registry import RegisteredVersion

DAMAGED = ArtifactError("bundle_hash", "index.faiss differs", where="models/v18")


def manager_of(source: StubSource, tmp_path: Path, **values: Any) -> ModelsManager:
    """A manager that has tried to load every model."""
    manager = ModelsManager(settings(tmp_path, **values), source)
    manager.start().join(10)
    return manager


def until(true: Callable[[], Any]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("the condition did not become true")


def test_service_is_ready_only_after_the_warm_up(tmp_path: Path) -> None:
    loading = threading.Event()

    class Slow(StubSource):
        def find(self, reference: str) -> ModelVersion:
            loading.wait(10)
            return super().find(reference)

    requests = (("GET", "/healthz", {}), ("GET", "/readyz", {}))
    app = create_app(settings(tmp_path), Slow())
    try:
        health, ready = call(app, *requests, wait=False)
    finally:
        loading.set()
    assert health.status_code == 200
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert ready.json()["detail"] == "the model is being loaded"
    ready, models = call((settings(tmp_path), StubSource()), ("GET", "/readyz", {}), ("GET", "/v1/models", {}))
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "stale": False})
    assert models.json()["unavailable"] == []
    (model,) = models.json()["models"]
    assert (model["alias"], model["version"], model["variant"], model["stale"]) == ("default", "1", "v18", False)


@pytest.mark.parametrize(
    ("step", "error", "word"),
    [
        ("find", DAMAGED, "bundle_hash"),
        ("load", DAMAGED, "bundle_hash"),
        ("load", ZeroDivisionError("x"), "model_failed"),
        ("warm_up", DAMAGED, "bundle_hash"),
        ("warm_up", ZeroDivisionError("x"), "model_failed"),
    ],
)
def test_model_that_cannot_be_served_is_reported(tmp_path: Path, step: str, error: Exception, word: str) -> None:
    source = StubSource(errors={step: error})
    ready, models = call((settings(tmp_path), source), ("GET", "/readyz", {}), ("GET", "/v1/models", {}))
    assert ready.status_code == 503
    assert word in ready.json()["detail"]
    assert models.json()["models"] == []
    assert models.json()["unavailable"][0]["alias"] == "default"


def test_several_models_are_chosen_by_alias_or_version(tmp_path: Path) -> None:
    class Two(StubSource):
        def find(self, reference: str) -> ModelVersion:
            return SECOND if reference == "other" else FIRST

    manager = manager_of(Two(), tmp_path, models="new=other")
    assert (manager.get().alias, manager.get("new").version_name, manager.get("2").alias) == ("default", "2", "new")
    assert [info["alias"] for info in manager.infos()] == ["default", "new"]
    with pytest.raises(InputError) as caught:
        manager.get("nobody")
    assert caught.value.code == "model_unknown"
    assert "default, new" in str(caught.value.hint)


def test_failing_second_model_leaves_the_default_one_ready(tmp_path: Path) -> None:
    class OneBad(StubSource):
        def find(self, reference: str) -> ModelVersion:
            if reference == "bad":
                raise DAMAGED
            return FIRST

    manager = manager_of(OneBad(), tmp_path, models="b=bad")
    assert manager.not_ready is None
    assert "bundle_hash" in manager.unavailable()[0]["reason"]
    with pytest.raises(ResourceError, match="bundle_hash"):
        manager.get("b")


@contextmanager
def imputing(manager: ModelsManager, source: StubSource, folder: Path) -> Iterator[Callable[[], Any]]:
    """A request that is imputing. The yielded function lets it finish and returns its outcome."""
    served, model = manager.get(), source.loaded[0]
    model.held = threading.Event()
    (folder / "target").write_bytes(b"x")
    outcome: list[Any] = []

    def run() -> None:
        try:
            options: Any = None
            outcome.append(served.impute(folder / "target", folder / "out", options).report.n_samples)
        except VcfbertError as error:
            outcome.append(error.code)

    def finish() -> Any:
        held = model.held
        assert held is not None
        held.set()
        thread.join(10)
        return outcome[0]

    thread = threading.Thread(target=run)
    thread.start()
    model.begun.wait(10)
    try:
        yield finish
    finally:
        finish()


def test_reload_during_a_request_lets_it_finish_with_its_model(tmp_path: Path) -> None:
    source = StubSource()
    manager = manager_of(source, tmp_path)
    before = manager.get()
    with imputing(manager, source, tmp_path) as finish:
        source.found = SECOND
        reloading = threading.Thread(target=manager.reload)
        reloading.start()
        until(lambda: len(source.loaded) == 2)
        assert manager.get() is before  # until the new one has imputed, for which it waits for the device
        assert finish() == 3
        reloading.join(10)
    assert manager.get().version_name == "2"
    assert before.version_name == "1"


def test_running_imputation_ends_between_blocks_when_the_process_stops(tmp_path: Path) -> None:
    source = StubSource()
    manager = manager_of(source, tmp_path)
    with imputing(manager, source, tmp_path) as finish:
        manager.stop()
        time.sleep(0.1)
        assert finish() == "stopping"


def test_reload_reports_what_changed(tmp_path: Path) -> None:
    source = StubSource()
    manager = manager_of(source, tmp_path)
    assert manager.reload() == {"models": [{"alias": "default", "changed": False, "version": "1", "before": "1"}]}
    assert len(source.loaded) == 1
    source.found = SECOND
    assert manager.reload("default")["models"][0] == {
        "alias": "default",
        "changed": True,
        "version": "2",
        "before": "1",
    }
    with pytest.raises(InputError, match="nobody"):
        manager.reload("nobody")


@pytest.mark.parametrize("step", ["load", "warm_up"])
def test_bad_version_is_refused_and_the_previous_one_stays(tmp_path: Path, step: str) -> None:
    source = StubSource()
    app = create_app(settings(tmp_path), source)

    async def use(client: Any) -> Any:
        source.found, source.errors[step] = SECOND, DAMAGED
        return [await client.post("/v1/models/reload"), await client.get("/v1/models"), await client.get("/readyz")]

    reload, models, ready = with_client(app, use)
    assert (reload.status_code, reload.json()["code"]) == (409, "reload_refused")
    assert "index.faiss differs" in reload.json()["detail"]
    assert models.json()["models"][0]["version"] == "1"
    assert "index.faiss differs" in models.json()["models"][0]["reason"]
    assert ready.status_code == 200


def test_polling_tries_a_bad_version_once(tmp_path: Path) -> None:
    source = StubSource()
    manager = ModelsManager(settings(tmp_path, poll_seconds=0.01), source)
    thread = manager.start()
    try:
        until(lambda: manager.not_ready is None)
        source.errors["warm_up"] = DAMAGED
        source.found = SECOND
        until(lambda: len(source.loaded) == 2)
        looked = len(source.looked_up)
        until(lambda: len(source.looked_up) > looked + 3)
        assert (len(source.loaded), manager.get().version_name) == (2, "1")
        source.errors.clear()
        source.found = RegisteredVersion("vcfbert", 3, "33" * 32)
        until(lambda: manager.get().version_name == "3")
        assert "reason" not in manager.infos()[0]
    finally:
        manager.stop()
        thread.join(5)
    assert not thread.is_alive()


def test_registry_down_at_start_serves_the_cached_version(tmp_path: Path) -> None:
    source = StubSource(cached=FIRST, errors={"find": registry_down()})
    ready, models = call((settings(tmp_path), source), ("GET", "/readyz", {}), ("GET", "/v1/models", {}))
    assert (ready.status_code, ready.json()["stale"]) == (200, True)
    assert "connection refused" in ready.json()["reason"]
    (model,) = models.json()["models"]
    assert (model["version"], model["stale"]) == ("1", True)
    assert "connection refused" in model["reason"]


def test_registry_down_without_cached_version_is_asked_again(tmp_path: Path) -> None:
    source = StubSource(errors={"find": registry_down()})
    manager = ModelsManager(settings(tmp_path, poll_seconds=0.01), source)
    thread = manager.start()
    try:
        until(lambda: manager.not_ready and "registry_unavailable" in manager.not_ready)
        source.errors.clear()
        until(lambda: manager.not_ready is None)
    finally:
        manager.stop()
        thread.join(5)


def test_registry_down_later_is_reported_until_it_answers(tmp_path: Path) -> None:
    source = StubSource()
    manager = ModelsManager(settings(tmp_path, poll_seconds=0.01), source)
    thread = manager.start()
    try:
        until(lambda: manager.not_ready is None)
        source.errors["find"] = registry_down()
        until(lambda: manager.infos()[0]["stale"])
        with pytest.raises(ReloadRefusedError, match="connection refused"):
            manager.reload()
        assert manager.get().version_name == "1"
        source.errors.clear()
        until(lambda: not manager.infos()[0]["stale"])
    finally:
        manager.stop()
        thread.join(5)
    assert len(source.loaded) == 1


def bundle_settings(folder: Path, bundle: Path, **values: Any) -> Settings:
    return settings(folder, model=str(bundle), **values)


def test_real_bundle_is_loaded_warmed_up_and_imputes(tmp_path: Path, tiny_files: TinyFiles) -> None:
    from vcfbert.imputation.files import ImputeOptions

    ours, metrics = bundle_settings(tmp_path, tiny_files.bundle), Metrics()
    source = BundleSource(ours, metrics.retrieval)
    manager = ModelsManager(ours, source, observe=metrics.imputation)
    manager.start().join(60)
    assert manager.not_ready is None
    served = manager.get()
    assert served.info["n_sites"] == served.imputer.bundle.panels[0].n_sites
    assert len(served.digest) == 64
    out = tmp_path / "out.vcf.gz"
    imputed = served.impute(tiny_files.target, out, ImputeOptions())
    assert out.is_file()
    text = metrics.text().decode()
    assert f'vcfbert_targets_imputed_total{{by="request",model="default"}} {imputed.report.n_samples}.0' in text
    assert 'vcfbert_retrieval_seconds_count{variant="v18"}' in text


def test_damaged_real_bundle_is_refused_and_the_previous_one_stays(tmp_path: Path, tiny_files: TinyFiles) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_files.bundle, folder)
    ours = bundle_settings(tmp_path, folder)
    manager = ModelsManager(ours, BundleSource(ours))
    manager.start().join(60)
    before = manager.get()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")  # another version of it
    (folder / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ReloadRefusedError, match="bundle_"):
        manager.reload()
    assert manager.get() is before


def test_folder_that_holds_another_bundle_is_refused(tmp_path: Path, tiny_files: TinyFiles) -> None:
    source = BundleSource(bundle_settings(tmp_path, tiny_files.bundle))
    source.load(source.find(str(tiny_files.bundle)))
    with pytest.raises(ArtifactError) as caught:
        source.load(FolderVersion(tiny_files.bundle, "0" * 64))
    assert caught.value.code == "bundle_changed"
