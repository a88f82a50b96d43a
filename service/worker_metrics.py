"""The metrics endpoint of a worker that runs without the service."""

from __future__ import annotations

import threading

import uvicorn
from fastapi import FastAPI

from .http.connections import Connections, limited_protocol
from .http.draining import Drain
from .http.limits import CallerLimits
from .http.metrics import Metrics
from .http.middleware import AuthMiddleware
from .routes import metrics as route
from .settings import Settings, check_exposure


def served_metrics(settings: Settings) -> Metrics:
    """Returns the worker's metrics, served at ``host``:``worker_metrics_port`` by a thread unless the port is 0.

    Raises InputError 'open_service'. The process ends if the port is taken.
    """
    metrics = Metrics()
    if settings.worker_metrics_port:
        check_exposure(settings, settings.host)
        config = uvicorn.Config(
            metrics_app(settings, metrics),
            host=settings.host,
            port=settings.worker_metrics_port,
            http=limited_protocol(Connections(settings.max_connections, settings.header_seconds)),
            log_config=None,
            access_log=False,
        )
        run, listening = uvicorn.Server(config).run, config.bind_socket()
        threading.Thread(target=run, kwargs={"sockets": [listening]}, name="metrics", daemon=True).start()
    return metrics


def metrics_app(settings: Settings, metrics: Metrics) -> FastAPI:
    """Returns an application with ``/metrics`` only. It admits the callers that the service would admit."""
    app = FastAPI(openapi_url=None)
    app.state.metrics = metrics
    app.include_router(route.router)
    limits = CallerLimits(settings.rate_per_minute, settings.concurrent_per_key, settings.redis_url)
    app.add_middleware(AuthMiddleware, settings=settings, limits=limits, drain=Drain(0.0))
    return app
