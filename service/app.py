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

from vcfbert import __version__
from vcfbert.errors import VcfbertError

from .allocator import share_freed
from .http import logs, problems
from .http.body_limit import BodyLimit
from .http.draining import Drain
from .http.limits import CallerLimits
from .http.metrics import Metrics
from .http.middleware import REQUEST_ID, AuthMiddleware, RequestContextMiddleware
from .jobs.intake import Jobs
from .models.bundles import BundleSource
from .models.manager import ModelsManager
from .models.model import ModelSource
from .routes import ROUTERS
from .settings import Settings, check_exposure, read_settings
from .storage import keep_private
from .uploads.files import open_parsers
from .uploads.kept import KeptUploads


def create_app(settings: Settings, source: ModelSource | None = None) -> FastAPI:
    """Returns the application. ``source`` loads the models (default: ``BundleSource``)."""
    share_freed()
    metrics, drain = Metrics(), Drain(settings.drain_seconds)
    source = source or BundleSource(settings, observe_retrieval=metrics.retrieval)
    manager = ModelsManager(settings, source, observe=metrics.imputation)
    jobs, parsers = Jobs(settings, metrics), open_parsers(settings)
    metrics.watch_models(manager)
    metrics.watch_jobs(jobs.counts, lambda: jobs.sick)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(parsers.warm_up)
        await asyncio.to_thread(jobs.start)
        manager.start()
        with drain.signals():
            yield
        manager.stop()
        await asyncio.to_thread(jobs.stop)
        await asyncio.to_thread(parsers.close)

    # FastAPI's own documentation pages load scripts from other hosts.
    app = FastAPI(title="vcfbert", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.manager = manager
    app.state.jobs = jobs
    app.state.parsers = parsers
    app.state.kept = KeptUploads(settings)
    app.state.metrics = metrics
    app.state.drain = drain
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    # The middleware added last is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes, stall_seconds=settings.stall_seconds)
    limits = CallerLimits(settings.rate_per_minute, settings.concurrent_per_key, settings.redis_url)
    app.add_middleware(AuthMiddleware, settings=settings, limits=limits, drain=drain)
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
        from .http.tracing import instrument

        instrument(app)
    return app


@cache
def _served() -> FastAPI:
    """Returns the application for a server. Exits with 2 if the settings are invalid or would serve everyone."""
    try:
        settings = read_settings()
        check_exposure(settings, uvicorn_host(sys.argv))
        logs.configure(settings.log_json)
        keep_private(settings.data)
        app = create_app(settings)
        app.state.jobs.open()
    except VcfbertError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    return app


def uvicorn_host(arguments: list[str]) -> str:
    """Returns the host that uvicorn's command line names.

    Other servers' hosts are unknown here; ``AuthMiddleware`` checks the address that each request arrives at.
    """
    if "uvicorn" not in Path(arguments[0]).parts[-2:] or "--uds" in arguments:
        return "127.0.0.1"
    for number, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--host":
            return value if separator else (arguments[number + 1] if number + 1 < len(arguments) else "")
    return "127.0.0.1"


def __getattr__(name: str) -> Any:
    # `app` is created on first access, so importing this module reads no settings.
    if name == "app":
        return _served()
    raise AttributeError(name)
