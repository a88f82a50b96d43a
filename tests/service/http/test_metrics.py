from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.http.metrics import Metrics
from service.models.manager import ModelsManager
from tests.helpers.service import StubSource, call, registry_down, settings

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_requests_are_counted_by_route_template(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), StubSource())

    @app.get("/v1/things/{thing}")
    def thing(thing: str) -> str:
        return thing

    *_, answer = call(
        app,
        ("GET", "/v1/things/secret-one", {}),
        ("GET", "/v1/things/secret-two", {}),
        ("GET", "/v1/none-such", {}),
        ("BREW", "/v1/models", {}),
        ("GET", "/metrics", {}),
    )
    assert answer.headers["content-type"].startswith("text/plain")
    samples = parsed(answer.text)
    route = {"method": "GET", "route": "/v1/things/{thing}"}
    assert value(samples, "vcfbert_requests_total", status="200", **route) == 2
    assert value(samples, "vcfbert_request_seconds_count", **route) == 2
    assert value(samples, "vcfbert_requests_total", status="404", method="GET", route="unmatched") == 1
    assert "secret" not in answer.text
    assert "BREW" not in answer.text


def test_metrics_report_served_models(tmp_path: Path) -> None:
    (answer,) = call((settings(tmp_path), StubSource()), ("GET", "/metrics", {}))
    samples = parsed(answer.text)
    labels = {"model": "default", "version": "1", "variant": "v18", "digest": "11" * 32}
    assert value(samples, "vcfbert_model_info", **labels) == 1
    assert value(samples, "vcfbert_model_stale", model="default") == 0
    assert value(samples, "vcfbert_ready") == 1


def test_metrics_without_loaded_model_report_not_ready(tmp_path: Path) -> None:
    (answer,) = call((settings(tmp_path), StubSource(errors={"find": registry_down()})), ("GET", "/metrics", {}))
    assert value(parsed(answer.text), "vcfbert_ready") == 0


def test_imputations_are_counted_by_model(tmp_path: Path) -> None:
    metrics = Metrics()
    manager = ModelsManager(settings(tmp_path), StubSource(), observe=metrics.imputation)
    manager.start().join(10)
    served = manager.get()
    since = served.device.held_seconds
    with served.device:
        time.sleep(0.01)
    served.count(4, since)
    samples = parsed(metrics.text().decode())
    assert value(samples, "vcfbert_targets_imputed_total", model="default", by="request") == 4
    assert value(samples, "vcfbert_imputation_seconds_count", model="default", by="request") == 1
    assert value(samples, "vcfbert_imputation_seconds_sum", model="default", by="request") >= 0.01


def test_imputation_that_fails_is_not_counted(tmp_path: Path) -> None:
    metrics, source = Metrics(), StubSource()
    manager = ModelsManager(settings(tmp_path), source, observe=metrics.imputation)
    manager.start().join(10)

    def fail(*given: Any, **hooks: Any) -> Any:
        with manager.get().device:
            raise ZeroDivisionError

    source.loaded[0].impute = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        manager.get().impute(tmp_path, tmp_path, cast(Any, None))
    assert "vcfbert_targets_imputed_total{" not in metrics.text().decode()


def test_targets_of_a_file_with_several_chromosomes_are_counted_once(tmp_path: Path) -> None:
    metrics, source = Metrics(), StubSource()
    manager = ModelsManager(settings(tmp_path), source, observe=metrics.imputation)
    manager.start().join(10)
    model = source.loaded[0]

    def impute(target: Path, output: Path, options: Any, **hooks: Any) -> Any:
        for _ in range(2):
            with manager.get().device:
                time.sleep(0.01)
        return SimpleNamespace(report=SimpleNamespace(n_samples=3))

    model.impute = impute  # type: ignore[method-assign]
    manager.get().impute(tmp_path, tmp_path, cast(Any, None))
    samples, labels = parsed(metrics.text().decode()), {"model": "default", "by": "request"}
    assert value(samples, "vcfbert_targets_imputed_total", **labels) == 3
    assert value(samples, "vcfbert_imputation_seconds_count", **labels) == 1
    assert value(samples, "vcfbert_imputation_seconds_sum", **labels) >= 0.02


def test_job_states_are_read_at_every_scrape() -> None:
    metrics, states = Metrics(), {"queued": 2, "running": 1}
    metrics.watch_jobs(lambda: states)
    assert value(parsed(metrics.text().decode()), "vcfbert_queue_length") == 2
    states["queued"] = 5
    samples = parsed(metrics.text().decode())
    assert value(samples, "vcfbert_jobs", state="queued") == 5
    assert value(samples, "vcfbert_jobs", state="running") == 1


def test_metrics_without_job_table_keep_the_others() -> None:
    metrics = Metrics()

    def away() -> Mapping[str, int]:
        raise OSError("connection refused")

    metrics.request("GET", "/", 200, 0.1)
    metrics.watch_jobs(away)
    samples = parsed(metrics.text().decode())
    assert value(samples, "vcfbert_requests_total", method="GET", route="/", status="200") == 1
