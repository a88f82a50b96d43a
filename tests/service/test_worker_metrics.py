"""What an operator scrapes of jobs: of a service for the worker it started, of any other worker at its own port."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http.metrics import Metrics
from service.jobs.observer import SentMetrics, receive
from service.worker_metrics import metrics_app, served_metrics
from tests.helpers.service import API_KEYS, bearer, settings
from tests.service.http.test_metrics import parsed, value
from tests.service.jobs.test_processes import free_port, service_at, wait_for
from vcfbert.errors import InputError

JOBS = {"model": "default", "by": "job"}
COUNT = "vcfbert_targets_imputed_total"


def targets(text: str) -> float:
    """Samples imputed by jobs, each of which has one."""
    return parsed(text).get((COUNT, frozenset(JOBS.items())), 0.0)


def test_jobs_of_embedded_worker_are_counted_by_the_service(tmp_path: Path) -> None:
    with service_at(tmp_path / "data") as service:
        assert targets(service.metrics()) == 0
        service.all_end([service.send("steps 1 0"), service.send("bad"), service.send("steps 1 0")])
        wait_for(lambda: targets(service.metrics()) == 2, "the count of both")
        os.kill(service.worker_pid(), signal.SIGKILL)
        service.all_end([service.send("steps 1 0")])
        wait_for(lambda: targets(service.metrics()) == 3, "the count by another worker, on top")
        assert value(parsed(service.metrics()), "vcfbert_imputation_seconds_count", **JOBS) == 3


def test_jobs_of_separate_worker_are_counted_only_there(tmp_path: Path) -> None:
    port = free_port()
    with service_at(tmp_path / "data", EMBEDDED_WORKER="false", WORKER_METRICS_PORT=str(port)) as service:
        service.start_worker()
        service.all_end([service.send("steps 1 0") for _ in range(2)])

        def scraped() -> str:
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text

        wait_for(lambda: targets(scraped()) == 2, "the count of both")
        assert targets(service.metrics()) == 0
        assert httpx.get(f"http://127.0.0.1:{port}/v1/jobs").status_code == 404


def test_worker_metrics_from_another_machine_need_a_key(tmp_path: Path) -> None:
    app = metrics_app(settings(tmp_path, api_keys=API_KEYS), Metrics())

    async def ask(client: tuple[str, int], headers: dict[str, str]) -> int:
        transport: Any = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as calls:
            return (await calls.get("/metrics", headers=headers)).status_code

    here, elsewhere = ("127.0.0.1", 9), ("192.0.2.1", 9)
    asked = [(here, {}), (elsewhere, {}), (elsewhere, bearer("ann"))]
    assert [asyncio.run(ask(*each)) for each in asked] == [200, 401, 200]


def test_worker_metrics_without_keys_on_open_interface_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without access keys") as caught:
        served_metrics(settings(tmp_path, host="0.0.0.0", worker_metrics_port=free_port()))
    assert caught.value.code == "open_service"


def test_sent_metrics_are_received_except_a_cut_line() -> None:
    told, tells = os.pipe()
    sent, metrics = SentMetrics(tells), Metrics()
    sent.job("default", 3, 0.5)
    sent.retrieval("v19", 0.25)
    sent.job("default", 4, 0.5)
    os.write(tells, b'["job", "default", 99')
    os.close(tells)
    with os.fdopen(told) as lines:
        receive(lines, metrics)
    samples = parsed(metrics.text().decode())
    assert value(samples, COUNT, **JOBS) == 7
    assert value(samples, "vcfbert_retrieval_seconds_sum", variant="v19") == 0.25


def test_metrics_of_a_worker_without_listener_are_dropped() -> None:
    told, tells = os.pipe()
    os.close(told)
    with pytest.raises(BrokenPipeError):
        os.write(tells, b"x")
    SentMetrics(tells).job("default", 3, 0.5)  # raises nothing
    os.close(tells)
