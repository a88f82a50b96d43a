"""FastAPI dependencies of the routes. They are async, because FastAPI passes other functions to a worker thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import anyio.from_thread
from fastapi import Depends, Request

from vcfbert.errors import InputError, ResourceError
from vcfbert.genotypes.parsing.process import Parsers

from ..http.metrics import Metrics
from ..models.manager import ModelsManager
from ..settings import Settings
from ..uploads.kept import KeptUploads

_ASK_SECONDS = 0.1  # between two questions to the event loop whether the client is still there


async def _manager(request: Request) -> ModelsManager:
    manager: ModelsManager = request.app.state.manager
    return manager


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


AppSettings = Annotated[Settings, Depends(_settings)]


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _kept(request: Request) -> KeptUploads:
    kept: KeptUploads = request.app.state.kept
    return kept


async def _parsers(request: Request) -> Parsers:
    parsers: Parsers = request.app.state.parsers
    return parsers


async def _still_wanted(request: Request, settings: AppSettings) -> Callable[[], None]:
    started = asked = time.monotonic()

    def check() -> None:
        nonlocal asked
        now = time.monotonic()
        if now - started > settings.max_seconds:
            what = f"the request did not finish within {settings.max_seconds:g} seconds"
            raise ResourceError("too_slow", what, hint="send fewer samples or a smaller region")
        if now - asked < _ASK_SECONDS:
            return
        asked = now
        if anyio.from_thread.run(request.is_disconnected):
            raise InputError("disconnected", "the client disconnected")  # ends the work; nobody receives it

    return check


Manager = Annotated[ModelsManager, Depends(_manager)]
AppMetrics = Annotated[Metrics, Depends(_metrics)]
Kept = Annotated[KeptUploads, Depends(_kept)]
AppParsers = Annotated[Parsers, Depends(_parsers)]
# A check for use between blocks, in a worker thread. It raises if the caller disconnected or the time limit passed.
StillWanted = Annotated[Callable[[], None], Depends(_still_wanted)]
