from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.models_manager import Model
from service.settings import Settings
from vcfbert.errors import ArtifactError, InputError

VCF = b"##fileformat=VCFv4.2\n"


class StubModel:
    """Answers with the upload's own bytes; refuses an upload that says so."""

    info: Mapping[str, Any] = {"variant": "v18", "n_sites": 3}

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def impute(self, target: Path, output: Path) -> Mapping[str, Any]:
        self.folders.append(target.parent)
        content = target.read_bytes()
        if content == b"bad":
            raise InputError("not_vcf", "this is not a VCF", where=f"{target}: line 1", hint="send a VCF")
        if content == b"crash":
            raise ZeroDivisionError
        output.write_bytes(gzip.compress(content))
        return {"n_used": 3}


def call(
    load: Callable[[], Model],
    *requests: tuple[str, str, dict[str, Any]],
    wait: bool = True,
    settings: Settings | None = None,
) -> list[httpx.Response]:
    """Answers of a running application to (method, path, arguments of httpx)."""

    async def run() -> list[httpx.Response]:
        app = create_app(settings or Settings(), load)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://x")
        async with app.router.lifespan_context(app), client:
            while wait and app.state.manager.not_ready == "the model is being loaded":
                await asyncio.sleep(0.01)
            return [await client.request(method, path, **arguments) for method, path, arguments in requests]

    return asyncio.run(run())


def upload(content: bytes) -> tuple[str, str, dict[str, Any]]:
    return ("POST", "/v1/impute", {"files": {"file": ("mine.vcf", content)}})


def test_an_upload_comes_back_imputed_and_leaves_nothing_behind() -> None:
    model = StubModel()
    (answer,) = call(lambda: model, upload(VCF))
    assert answer.status_code == 200
    assert gzip.decompress(answer.content) == VCF
    assert answer.headers["content-type"] == "application/gzip"
    assert json.loads(answer.headers["x-vcfbert-qc"]) == {"n_used": 3}
    assert not model.folders[0].exists()


def test_a_bad_upload_is_answered_by_the_librarys_error_under_the_callers_file_name() -> None:
    model = StubModel()
    (answer,) = call(lambda: model, upload(b"bad"))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "not_vcf",
        "detail": "this is not a VCF",
        "where": "mine.vcf: line 1",
        "hint": "send a VCF",
    }
    assert not model.folders[0].exists()


def test_an_unexpected_failure_tells_no_internals() -> None:
    model = StubModel()
    (answer,) = call(lambda: model, upload(b"crash"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "ZeroDivision" not in answer.text
    assert not model.folders[0].exists()


def test_ready_only_when_the_model_is_loaded() -> None:
    loaded = threading.Event()

    def load() -> Model:
        loaded.wait(10)
        return StubModel()

    try:
        health, ready, imputed = call(load, ("GET", "/healthz", {}), ("GET", "/readyz", {}), upload(VCF), wait=False)
    finally:
        loaded.set()
    assert health.status_code == 200
    assert (ready.status_code, ready.json()["code"], ready.json()["detail"]) == (
        503,
        "not_ready",
        "the model is being loaded",
    )
    assert (imputed.status_code, imputed.json()["code"]) == (503, "not_ready")
    ready, models = call(StubModel, ("GET", "/readyz", {}), ("GET", "/v1/models", {}))
    assert ready.status_code == 200
    assert models.json() == {"models": [{"variant": "v18", "n_sites": 3}]}


def test_a_model_that_cannot_be_loaded_is_said_to_be_so() -> None:
    def load() -> Model:
        raise ArtifactError("bundle_hash", "index.faiss differs", where="models/v18")

    (ready,) = call(load, ("GET", "/readyz", {}))
    assert ready.status_code == 503
    assert "bundle_hash" in ready.json()["detail"]


async def chunks(count: int) -> AsyncIterator[bytes]:
    """A multipart body of ``count`` pieces of 100 kB, of no announced length."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    for _ in range(count):
        yield b"x" * 100_000
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize(("count", "status"), [(9, 200), (11, 413)])
def test_the_size_limit_counts_bytes_that_were_not_announced(count: int, status: int) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    request = ("POST", "/v1/impute", {"content": chunks(count), "headers": headers})
    (answer,) = call(StubModel, request, settings=Settings(max_upload_mb=1))
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["code"] == "too_large"


def test_an_announced_length_over_the_limit_is_refused_at_once() -> None:
    (answer,) = call(StubModel, upload(b"x" * 1_100_000), settings=Settings(max_upload_mb=1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_request_without_the_file_is_a_problem_too() -> None:
    missing, unknown = call(StubModel, ("POST", "/v1/impute", {}), ("GET", "/nothing", {}))
    assert (missing.status_code, missing.json()["code"]) == (422, "request_invalid")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "http_error")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VCFBERT_MODEL", "models/v17")
    monkeypatch.setenv("VCFBERT_MAX_UPLOAD_MB", "3")
    settings = Settings()
    assert (settings.model, settings.max_upload_bytes) == ("models/v17", 3_000_000)
