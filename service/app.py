"""The HTTP service: ``uvicorn service.app:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import problems
from service.limits import BodyLimit
from service.models_manager import BundleModel, Model, ModelsManager
from service.routes import health, impute, models
from service.settings import Settings
from vcfbert import __version__


def create_app(settings: Settings, load: Callable[[], Model] | None = None) -> FastAPI:
    """The application. ``load`` gives the model (default: the bundle that ``settings.model`` names)."""
    manager = ModelsManager(load or (lambda: BundleModel(settings)))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        manager.start()
        yield

    app = FastAPI(title="vcfbert", version=__version__, lifespan=lifespan)
    app.state.manager = manager
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes)
    for router in (health.router, models.router, impute.router):
        app.include_router(router)
    return app


app = create_app(Settings())
