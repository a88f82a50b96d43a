"""FastAPI dependencies of the routes. They are async, because FastAPI passes other functions to a worker thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..http.metrics import Metrics
from ..models.manager import ModelsManager
from ..settings import Settings
from ..uploads.kept import KeptUploads


async def _manager(request: Request) -> ModelsManager:
    manager: ModelsManager = request.app.state.manager
    return manager


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _kept(request: Request) -> KeptUploads:
    kept: KeptUploads = request.app.state.kept
    return kept


Manager = Annotated[ModelsManager, Depends(_manager)]
AppSettings = Annotated[Settings, Depends(_settings)]
AppMetrics = Annotated[Metrics, Depends(_metrics)]
Kept = Annotated[KeptUploads, Depends(_kept)]
