from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from tests.helpers.service import API_KEYS, KEYS, StubSource, bearer, call, settings
from vcfbert.errors import VcfbertError


def get(path: str, **headers: str) -> tuple[str, str, dict[str, Any]]:
    return ("GET", path, {"headers": headers})


def test_key_in_either_header_is_accepted(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())
    answers = call(
        app,
        get("/v1/models", **bearer("ann")),
        get("/v1/models", **{"X-API-Key": KEYS["bob"]}),
        get("/v1/models", Authorization=f"bearer {KEYS['ann']}"),
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEYS['ann']}"},
        {"X-API-Key": "schlüssel".encode().decode("latin-1")},
        {"X-API-Key": API_KEYS.split(",")[0].split(":")[1]},  # the hash is not the key
    ],
)
def test_request_without_valid_key_is_answered_401(tmp_path: Path, headers: dict[str, str]) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())
    (answer,) = call(app, ("GET", "/v1/models", {"headers": {k: v.encode("latin-1") for k, v in headers.items()}}))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_request_without_key_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    read = []

    async def body() -> Any:
        read.append(1)
        yield b"x"

    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())
    (answer,) = call(app, ("POST", "/v1/impute", {"content": body()}))
    assert answer.status_code == 401
    assert read == []


def test_page_and_probes_without_key_are_served(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())
    paths = ("/", "/static/app.js", "/healthz", "/readyz", "/docs", "/openapi.json")
    assert [answer.status_code for answer in call(app, *(get(path) for path in paths))] == [200] * len(paths)


def test_reload_with_other_than_admin_key_is_forbidden(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS, admin_keys="bob"), StubSource())
    path = "/v1/models/reload"
    ann, bob = call(app, ("POST", path, {"headers": bearer("ann")}), ("POST", path, {"headers": bearer("bob")}))
    assert (ann.status_code, ann.json()["code"]) == (403, "forbidden")
    assert bob.status_code == 200


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"Host": "localhost:8000"}, 200),
        ("127.0.0.1", {"Host": "[::1]:8000"}, 200),
        ("10.0.0.5", {}, 403),
        ("10.0.0.5", {"Host": "localhost"}, 403),
        ("127.0.0.1", {"Host": "rebound.example"}, 403),  # a name that was made to mean this machine
        ("127.0.0.1", {"Origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"Origin": "null"}, 403),
        ("127.0.0.1", {"Origin": "http://127.0.0.1"}, 200),
    ],
)
def test_service_without_keys_accepts_only_its_own_machine(
    tmp_path: Path, address: str, headers: dict[str, str], status: int
) -> None:
    url = f"http://{address}/v1/models"
    request = ("GET", url, {"headers": headers})
    (answer,) = call((settings(tmp_path), StubSource()), request)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "closed"
    (opened,) = call((settings(tmp_path, open=True), StubSource()), request)
    assert opened.status_code == 200


@pytest.mark.parametrize(
    ("client", "server", "status"),
    [("127.0.0.1", "127.0.0.1", 200), ("10.0.0.9", "127.0.0.1", 401), ("127.0.0.1", "10.0.0.5", 401)],
)
def test_metrics_from_another_machine_need_a_key(tmp_path: Path, client: str, server: str, status: int) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS), StubSource())

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{server}") as calls:
            return [await calls.get("/metrics"), await calls.get("/metrics", headers=bearer("ann"))]

    without, with_key = asyncio.run(run())
    assert (without.status_code, with_key.status_code) == (status, 200)


@pytest.mark.parametrize("headers", [{"Host": "impute.example.org"}, {"X-Forwarded-Proto": "https"}, {"Via": "1.1 p"}])
def test_metrics_behind_a_proxy_on_this_machine_need_a_key(tmp_path: Path, headers: dict[str, str]) -> None:
    app = settings(tmp_path, api_keys=API_KEYS), StubSource()
    refused, own, known = call(
        app,
        ("GET", "/metrics", {"headers": headers}),
        ("GET", "/metrics", {}),
        ("GET", "/metrics", {"headers": {**headers, **bearer("ann")}}),
    )
    assert (refused.status_code, own.status_code, known.status_code) == (401, 200, 200)


def test_readiness_tells_strangers_no_paths(tmp_path: Path) -> None:
    error = VcfbertError("registry_unavailable", "at http://user@registry", where="/srv/model")
    for values, told in (({"api_keys": API_KEYS}, False), ({"open": True}, False), ({}, True)):
        (answer,) = call((settings(tmp_path, **values), StubSource(errors={"find": error})), ("GET", "/readyz", {}))
        assert answer.status_code == 503
        assert ("/srv/model" in answer.text) is told
