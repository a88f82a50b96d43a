"""The metrics of a worker that belongs to no service, at an address of their own."""

from __future__ import annotations

import threading

import uvicorn
from fastapi import FastAPI

from .http.draining import Drain
from .http.limits import CallerLimits
from .http.metrics import Metrics
from .http.middleware import Gate
from .routes import metrics as route
from .settings import Settings, check_exposure


def served_metrics(settings: Settings) -> Metrics:
    """Metrics that are served at ``host`` and ``worker_metrics_port``, nowhere if that is 0. Raises InputError
    'open_service'; ends the process where the port is taken."""
    metrics = Metrics()
    if settings.worker_metrics_port:
        check_exposure(settings, settings.host)
        config = uvicorn.Config(
            metrics_app(settings, metrics),
            host=settings.host,
            port=settings.worker_metrics_port,
            log_config=None,
            access_log=False,
        )
        run, listening = uvicorn.Server(config).run, config.bind_socket()
        threading.Thread(target=run, kwargs={"sockets": [listening]}, name="metrics", daemon=True).start()
    return metrics


def metrics_app(settings: Settings, metrics: Metrics) -> FastAPI:
    """``/metrics`` alone, for whom the service would answer there too."""
    app = FastAPI(openapi_url=None)
    app.state.metrics = metrics
    app.include_router(route.router)
    limits = CallerLimits(settings.rate_per_minute, settings.concurrent_per_key)
    app.add_middleware(Gate, settings=settings, limits=limits, drain=Drain(0.0))
    return app
