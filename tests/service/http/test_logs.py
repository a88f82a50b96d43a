from __future__ import annotations

import builtins
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from service.app import create_app
from service.http import logs
from tests.helpers.service import API_KEYS, KEYS, StubSource, bearer, call, settings
from vcfbert.errors import ArtifactError, InputError, MissingExtraError


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged as JSON. The process's own logging is as before afterwards."""
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    before = (root.handlers, root.level, access.disabled)
    out = io.StringIO()
    logs.configure(True, out)
    yield out
    root.handlers, root.level, access.disabled = before
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_request_is_logged_with_id_and_without_query(tmp_path: Path, stream: io.StringIO) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())
    call(app, ("GET", "/v1/models?sample=NA12878", {"headers": {**bearer("ann"), "X-Request-Id": "mine-1"}}))
    (line,) = [event for event in events(stream) if event["event"] == "request"]
    assert (line["request_id"], line["route"], line["status"]) == ("mine-1", "/v1/models", 200)
    assert (line["method"], line["caller"], line["level"]) == ("GET", "ann", "info")
    assert line["ms"] >= 0
    assert "NA12878" not in stream.getvalue()
    assert KEYS["ann"] not in stream.getvalue()


def test_successful_probes_are_not_logged(tmp_path: Path, stream: io.StringIO) -> None:
    call((settings(tmp_path), StubSource()), ("GET", "/healthz", {}), ("GET", "/readyz", {}))
    assert [event for event in events(stream) if event["event"] == "request"] == []


@pytest.mark.parametrize(
    "error",
    [
        InputError("sample_twice", "NA12878 is there twice", where="NA12878.vcf: line 7"),
        ArtifactError("bundle_hash", "NA12878"),
        ZeroDivisionError("NA12878"),
        OSError(28, "No space left on device", "NA12878.vcf"),
    ],
)
def test_texts_of_errors_are_not_logged(tmp_path: Path, stream: io.StringIO, error: Exception) -> None:
    app = create_app(settings(tmp_path), StubSource())

    @app.post("/v1/fail")
    def fail() -> None:
        try:
            raise KeyError("NA12878")
        except KeyError as cause:
            raise error from cause

    call(app, ("POST", "/v1/fail", {"files": {"file": ("NA12878.vcf", b"NA12878")}}))
    assert "NA12878" not in stream.getvalue()
    assert any(event.get("route") == "/v1/fail" for event in events(stream))


def test_unexpected_error_is_logged_with_its_location(tmp_path: Path, stream: io.StringIO) -> None:
    app = create_app(settings(tmp_path), StubSource())

    @app.get("/v1/fail")
    def fail() -> float:
        return 1 / 0

    (answer,) = call(app, ("GET", "/v1/fail", {}))
    (line,) = [event for event in events(stream) if event["event"] == "unexpected"]
    assert line["exception"] == "ZeroDivisionError"
    assert "test_logs.py" in line["stack"][-1]
    assert line["request_id"] == answer.json()["request_id"]


def test_logs_of_libraries_are_json_and_uvicorn_access_log_is_off(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("%s things", 3, extra={"n_sites": 7})
    (line,) = events(stream)
    assert (line["event"], line["logger"], line["level"], line["n_sites"]) == (
        "3 things",
        "some.library",
        "warning",
        7,
    )
    logging.getLogger("uvicorn.access").warning("GET /?sample=NA12878")
    assert len(events(stream)) == 1


def test_logs_without_json_are_text(stream: io.StringIO) -> None:
    text = io.StringIO()
    logs.configure(False, text)
    structlog.get_logger("x").info("hello", n=1)
    assert "hello" in text.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.getvalue())


def test_traces_without_opentelemetry_raise_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError) as caught:
        create_app(settings(tmp_path, otel=True), StubSource())
    assert caught.value.code == "otel_missing"
