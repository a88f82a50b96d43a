"""The service in this process: stub models, settings that touch nothing outside a folder, calls over ASGI."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import httpx
from fastapi import FastAPI

from service.app import create_app
from service.http.auth import key_digest
from service.models.model import Model, ModelSource
from service.models.version import ModelVersion
from service.settings import Settings
from vcfbert.errors import VcfbertError
from vcfbert.tracking.registry import RegisteredVersion

KEYS = {"ann": "key-of-ann", "bob": "key-of-bob"}
API_KEYS = ",".join(f"{name}:{key_digest(key)}" for name, key in KEYS.items())
T = TypeVar("T")
Request = tuple[str, str, dict[str, Any]]  # method, path, arguments of httpx
FIRST = RegisteredVersion("vcfbert", 1, "11" * 32)
SECOND = RegisteredVersion("vcfbert", 2, "22" * 32)


def settings(folder: Path, **values: Any) -> Settings:
    """Of a service without a worker process and without polls, whose files are in ``folder``."""
    ours = {"data": folder / "data", "cache": folder / "cache", "embedded_worker": False, "poll_seconds": 0.0}
    return Settings(**{**ours, **values})


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


class StubModel:
    """Answers with the upload's own bytes. ``held``: every imputation waits for it."""

    imputer: Any = None

    def __init__(
        self, version: ModelVersion, device: AbstractContextManager[object], error: Exception | None = None
    ) -> None:
        self.info: Mapping[str, Any] = {"variant": "v18", "n_sites": 3}
        self.version = version
        self.device = device
        self.error = error  # of the warm-up
        self.begun = threading.Event()
        self.held: threading.Event | None = None

    def warm_up(self) -> None:
        with self.device:
            if self.error is not None:
                raise self.error

    def impute(self, target: Path, output: Path, options: Any = None, **hooks: Any) -> Any:
        with self.device:
            self.begun.set()
            if self.held is not None:
                while not self.held.wait(0.01):
                    if hooks.get("cancelled"):
                        hooks["cancelled"]()
        output.write_bytes(gzip.compress(target.read_bytes()))
        report = SimpleNamespace(n_samples=3, summary=lambda: {"n_used": 3, "frequencies": {}})
        return SimpleNamespace(report=report, summary={})


class NoParsers:
    """Parsers of what no model reads."""

    def open(self, path: Path) -> Any:
        return nullcontext()


@dataclass
class StubSource:
    """A registry where ``found`` is what every reference names; ``errors`` are raised by what they are named after."""

    found: ModelVersion = FIRST
    cached: ModelVersion | None = None
    errors: dict[str, Exception] = field(default_factory=dict)  # find, load, warm_up
    loaded: list[StubModel] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    def find(self, reference: str) -> ModelVersion:
        self.looked_up.append(reference)
        if "find" in self.errors:
            raise self.errors["find"]
        return self.found

    def find_cached(self, reference: str) -> ModelVersion | None:
        return self.cached

    def load(self, version: ModelVersion, device_guard: AbstractContextManager[object] | None = None) -> Model:
        if "load" in self.errors:
            raise self.errors["load"]
        self.loaded.append(StubModel(version, device_guard or nullcontext(), self.errors.get("warm_up")))
        return cast(Model, self.loaded[-1])


def registry_down() -> VcfbertError:
    return VcfbertError("registry_unavailable", "connection refused")


def with_client(app: FastAPI, use: Callable[[httpx.AsyncClient], Awaitable[T]], *, wait: bool = True) -> T:
    """What ``use`` returns of a client of the running application, with its models loaded if ``wait``."""

    async def run() -> T:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        async with app.router.lifespan_context(app), client:
            while wait and app.state.manager.not_ready == "the model is being loaded":
                await asyncio.sleep(0.005)
            return await use(client)

    return asyncio.run(run())


def call(
    app: FastAPI | tuple[Settings, ModelSource], *requests: tuple[str, str, dict[str, Any]], wait: bool = True
) -> list[httpx.Response]:
    """Answers to (method, path, arguments of httpx), one after the other."""

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.request(method, path, **arguments) for method, path, arguments in requests]

    return with_client(create_app(*app) if isinstance(app, tuple) else app, use, wait=wait)


def real_app(folder: Path, bundle: Path, **values: Any) -> FastAPI:
    """The service with a bundle."""
    return create_app(settings(folder, model=str(bundle), threads=1, **values))


def upload(content: bytes, name: str = "mine.vcf.gz", path: str = "/v1/impute", **form: str) -> Request:
    return ("POST", path, {"files": {"file": (name, content)}, "data": form})
