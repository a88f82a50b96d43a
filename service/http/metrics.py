"""Prometheus metrics of one application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..models.manager import ModelsManager
from ..models.served import Served

log = logging.getLogger(__name__)

_REQUEST_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
_IMPUTATION_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

JobStates = Callable[[], Mapping[str, int]]  # returns the current number of jobs by state


class Metrics:
    """Metrics in a registry of their own, so two applications in one process stay separate. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "vcfbert_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "vcfbert_request_seconds",
            "Seconds from the head of a request to the end of its response",
            ["method", "route"],
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._targets = Counter("vcfbert_targets_imputed", "Samples imputed", ["model", "by"], registry=self.registry)
        self._imputation_seconds = Histogram(
            "vcfbert_imputation_seconds",
            "Seconds of one imputation: a request's time on the device, or a job's time with reading and writing",
            ["model", "by"],
            buckets=_IMPUTATION_SECONDS,
            registry=self.registry,
        )
        self._retrieval_seconds = Histogram(
            "vcfbert_retrieval_seconds",
            "Seconds of one search of a window's reference subset",
            ["variant"],
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request. ``route`` is the path template: full paths would make one time series per job."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def imputation(self, served: Served, n_targets: int, seconds: float) -> None:
        """Counts the imputation of a synchronous request."""
        self._imputed(served.alias, "request", n_targets, seconds)

    def job(self, model: str, n_targets: int, seconds: float) -> None:
        """Counts a finished job."""
        self._imputed(model, "job", n_targets, seconds)

    def _imputed(self, model: str, by: str, n_targets: int, seconds: float) -> None:
        self._targets.labels(model, by).inc(n_targets)
        self._imputation_seconds.labels(model, by).observe(seconds)

    def retrieval(self, variant: str, seconds: float) -> None:
        """Counts one search of a reference subset."""
        self._retrieval_seconds.labels(variant).observe(seconds)

    def watch_models(self, manager: ModelsManager) -> None:
        """Reports the served models of ``manager`` at every scrape."""
        self.registry.register(_Models(manager))

    def watch_jobs(self, states: JobStates, sick: Callable[[], Iterable[str]] = tuple) -> None:
        """Calls ``states`` at every scrape: its counts cover all processes that share the job table. ``sick``: returns
        what does not answer."""
        self.registry.register(_Jobs(states, sick))

    def text(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _Models(Collector):
    def __init__(self, manager: ModelsManager) -> None:
        self._manager = manager

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(
            "vcfbert_model_info",
            "1 for each served model",
            labels=["model", "version", "variant", "digest"],
        )
        stale = GaugeMetricFamily(
            "vcfbert_model_stale", "1 if the registry did not answer when asked for a newer version", labels=["model"]
        )
        for model in self._manager.infos():
            labels = [str(model.get(name, "")) for name in ("alias", "version", "variant", "digest")]
            info.add_metric(labels, 1)
            stale.add_metric(labels[:1], float(model["stale"]))
        yield info
        yield stale
        ready = self._manager.not_ready is None
        yield GaugeMetricFamily("vcfbert_ready", "1 once the default model answers", value=float(ready))


class _Jobs(Collector):
    def __init__(self, states: JobStates, sick: Callable[[], Iterable[str]]) -> None:
        self._states = states
        self._sick = sick

    def collect(self) -> Iterable[Metric]:
        sick = GaugeMetricFamily("vcfbert_sick", "1 for each backend that does not answer", labels=["backend"])
        for name in self._sick():
            sick.add_metric([name], 1)
        yield sick
        try:
            states = self._states()
        except Exception:  # an unavailable job table must not hide the other metrics
            log.exception("job table unavailable: metrics without jobs")
            return
        jobs = GaugeMetricFamily("vcfbert_jobs", "Jobs by state", labels=["state"])
        for state, number in states.items():
            jobs.add_metric([state], number)
        yield jobs
        yield GaugeMetricFamily("vcfbert_queue_length", "Queued jobs", value=states.get("queued", 0))
