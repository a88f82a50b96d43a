"""The HTTP service: ``uvicorn service.app:app`` or ``python -m service``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.allocator import share_freed
from service.http import logs, problems
from service.http.draining import Drain
from service.http.limits import BodyLimit, CallerLimits
from service.http.metrics import Metrics
from service.http.middleware import REQUEST_ID, Gate, RequestContextMiddleware
from service.jobs.intake import Jobs
from service.models.bundles import BundleSource
from service.models.manager import ModelsManager, ModelSource
from service.routes import ROUTERS
from service.settings import Settings, check_exposure, read_settings
from service.uploads.kept import KeptUploads
from vcfbert import __version__
from vcfbert.errors import VcfbertError


def create_app(settings: Settings, source: ModelSource | None = None) -> FastAPI:
    """The application. ``source`` gives the models (default: bundles)."""
    share_freed()
    metrics, drain = Metrics(), Drain(settings.drain_seconds)
    source = source or BundleSource(settings, observe_retrieval=metrics.retrieval)
    manager = ModelsManager(settings, source, observe=metrics.imputation)
    jobs = Jobs(settings, metrics)
    metrics.watch_models(manager)
    metrics.watch_jobs(jobs.counts)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(jobs.start)
        manager.start()
        with drain.signals():
            yield
        manager.stop()
        await asyncio.to_thread(jobs.stop)

    # The framework's own pages of documentation fetch scripts from elsewhere.
    app = FastAPI(title="vcfbert", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.manager = manager
    app.state.jobs = jobs
    app.state.kept = KeptUploads(settings)
    app.state.metrics = metrics
    app.state.drain = drain
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes, stall_seconds=settings.stall_seconds)
    limits = CallerLimits(settings.rate_per_minute, settings.concurrent_per_key)
    app.add_middleware(Gate, settings=settings, limits=limits, drain=drain)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", REQUEST_ID],
            expose_headers=[REQUEST_ID, "X-Vcfbert-Qc", "Location", "Retry-After"],
        )
    app.add_middleware(RequestContextMiddleware, metrics=metrics, drain=drain)
    if settings.otel:
        from service.http.tracing import instrument

        instrument(app)
    return app


@cache
def _served() -> FastAPI:
    """What a server imports. Ends the process with 2 where the settings are wrong or would serve everyone."""
    try:
        settings = read_settings()
        check_exposure(settings, _host(sys.argv))
    except VcfbertError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    logs.configure(settings.log_json)
    return create_app(settings)


def _host(arguments: list[str]) -> str:
    """Where uvicorn's command line says to listen. Another server's is not known here: the gate looks at the address
    that each request arrives at."""
    if "uvicorn" not in Path(arguments[0]).parts[-2:] or "--uds" in arguments:
        return "127.0.0.1"
    for number, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--host":
            return value if separator else (arguments[number + 1] if number + 1 < len(arguments) else "")
    return "127.0.0.1"


def __getattr__(name: str) -> Any:
    # `app` is made when a server asks for it, so that importing this module reads no settings.
    if name == "app":
        return _served()
    raise AttributeError(name)
