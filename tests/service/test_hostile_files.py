"""Uploads that crash htslib, uploads that take too much, and parsers that are killed: the service answers and lives."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.helpers.command_line import TinyFiles
from tests.helpers.hostile_files import CODES, EDITS, eight_bytes, hostile_file
from tests.helpers.refusals import edited, set_calls
from tests.helpers.service import call, real_app, upload, with_client
from tests.service.jobs.test_bad_jobs import failed_job
from vcfbert.errors import InputError


def records_of(content: bytes) -> list[str]:
    return [line for line in gzip.decompress(content).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle)


def assert_told(problem: dict[str, str], folder: Path) -> None:
    assert problem["code"] in CODES, problem
    assert "mine.vcf" in problem["where"]
    assert str(folder) not in str(problem)
    assert problem["hint"]


@pytest.mark.parametrize("name", EDITS)
def test_hostile_upload_is_refused_with_422_and_the_service_goes_on(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, name: str
) -> None:
    content = hostile_file(tmp_path, tiny_files.target, name).read_bytes()
    refused, checked, good = call(
        app,
        upload(content, "mine.vcf"),
        upload(content, "mine.vcf", path="/v1/qc"),
        upload(tiny_files.target.read_bytes(), "good.vcf.gz"),
    )
    assert refused.status_code == 422
    assert_told(refused.json(), tmp_path)
    assert_told(checked.json()["refused"], tmp_path)
    assert good.status_code == 200


def test_upload_with_leading_phase_marks_is_imputed_as_without_them(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path
) -> None:
    """The parser process is confined, and starts another one that removes the marks."""
    marked = edited(tiny_files.target, tmp_path / "marked.vcf", set_calls(lambda call: f"|{call}"))
    plain = edited(tiny_files.target, tmp_path / "plain.vcf", lambda records: None)
    with_marks, without = call(app, *(upload(path.read_bytes(), "mine.vcf") for path in (marked, plain)))
    assert with_marks.status_code == without.status_code == 200
    records = [records_of(answer.content) for answer in (with_marks, without)]
    assert records[0] == records[1] != []


def test_eight_bytes_like_a_bcf_are_refused_with_422(app: FastAPI, tmp_path: Path) -> None:
    (refused,) = call(app, upload(eight_bytes(tmp_path).read_bytes(), "mine.vcf"))
    assert (refused.status_code, refused.json()["code"]) == (422, "vcf_invalid")


@pytest.mark.parametrize("name", ["GT dropped", "POS is a dot"])
def test_job_of_a_hostile_upload_fails_once(app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, name: str) -> None:
    content = hostile_file(tmp_path, tiny_files.target, name).read_bytes()
    job, _ = failed_job(app, content)
    assert job["state"] == "failed"
    assert job["error"]["code"] in CODES
    assert str(tmp_path) not in str(job)


def large(good: Path, folder: Path) -> bytes:
    """Many records with the samples of ``good``, on a chromosome that no panel has."""
    text = hostile_file(folder, good, "POS is text").read_text()
    header, columns = text[: text.index("\n20\t") + 1], text.splitlines()[-1].split("\t")
    lines = []
    for pos in range(1, 200_000):
        columns[0], columns[1] = "21", str(pos)
        lines.append("\t".join(columns))
    return (header.replace("ID=20", "ID=21") + "\n".join(lines) + "\n").encode()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_upload_that_takes_too_long_to_parse_is_refused(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle, parser_seconds=0.2)
    (refused,) = call(app, upload(large(tiny_files.target, tmp_path), "mine.vcf"))
    assert refusal(refused) == (422, "file_unreadable")
    assert "longer than 0.2 seconds" in refused.json()["detail"]


def test_time_limit_of_requests_holds_while_a_file_is_read(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle, max_seconds=0.2)
    content = large(tiny_files.target, tmp_path)
    slow, checked = call(app, upload(content, "mine.vcf"), upload(content, "mine.vcf", path="/v1/qc"))
    assert refusal(slow) == refusal(checked) == (503, "too_slow")


MANY = {
    "max_contigs": "##contig=<ID=c{}>\n",
    "max_header_mb": "##long{}=" + "x" * 90 + "\n",
}


@pytest.mark.parametrize(
    ("setting", "code"), [("max_contigs", "too_many_contigs"), ("max_header_mb", "header_too_large")]
)
def test_header_beyond_the_limits_is_refused(tiny_files: TinyFiles, tmp_path: Path, setting: str, code: str) -> None:
    app = real_app(tmp_path, tiny_files.bundle, **{setting: 1})
    more = "".join(MANY[setting].format(number) for number in range(12_000))
    content = (
        hostile_file(tmp_path, tiny_files.target, "POS is text").read_text().replace("##FORMAT", f"{more}##FORMAT", 1)
    )
    refused, checked = call(app, upload(content.encode()), upload(content.encode(), path="/v1/qc"))
    assert refusal(refused) == refusal(checked) == (413, code)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_undeclared": 20}, "too_many_undeclared"),
        ({"max_undeclared": 50, "max_keys": 20}, "too_many_keys"),
        ({"max_undeclared": 50, "max_record_mb": 1}, "record_too_large"),
    ],
)
def test_record_beyond_the_limits_is_refused(
    tiny_files: TinyFiles, tmp_path: Path, limits: dict[str, int], code: str
) -> None:
    app = real_app(tmp_path, tiny_files.bundle, **limits)
    *lines, last = hostile_file(tmp_path, tiny_files.target, "POS is text").read_text().splitlines()
    columns = last.split("\t")
    columns[7] = ";".join(f"K{number}={'x' * 40_000}" for number in range(30))
    (refused,) = call(app, upload("\n".join([*lines, "\t".join(columns)]).encode()))
    assert refusal(refused) == (413, code)


def test_long_header_does_not_hold_the_event_loop(tiny_files: TinyFiles, tmp_path: Path) -> None:
    """``/healthz`` is answered by the event loop. Before, it waited 2.6 seconds for such a header."""
    app = real_app(tmp_path, tiny_files.bundle)
    header = hostile_file(tmp_path, tiny_files.target, "POS is text").read_text()
    content = header.replace("##FORMAT", "".join(f"##x{number}=y\n" for number in range(900_000)) + "##FORMAT", 1)
    gaps = []

    async def use(client: httpx.AsyncClient) -> httpx.Response:
        method, path, arguments = upload(content.encode(), path="/v1/qc")
        asked = asyncio.ensure_future(client.request(method, path, **arguments))
        while not asked.done():
            before = time.perf_counter()
            assert (await client.get("/healthz")).status_code == 200
            gaps.append(time.perf_counter() - before)
            await asyncio.sleep(0.01)
        return await asked

    assert with_client(app, use).status_code == 200
    assert max(gaps) < 1


@pytest.mark.parametrize("path", ["/v1/impute", "/v1/qc"])
def test_reading_ends_when_the_client_leaves(tiny_files: TinyFiles, tmp_path: Path, path: str) -> None:
    """The parser process is killed. Reading this file would take a second and more."""
    app = real_app(tmp_path, tiny_files.bundle)
    parsers = app.state.parsers
    ended = []
    open_parser = parsers.open

    def watched(target: Path) -> Any:
        parser = open_parser(target)
        run = parser.run

        def counted(*args: Any, **options: Any) -> Iterator[Any]:
            try:
                yield from run(*args, **options)
            except InputError as error:
                ended.append(error.code)
                raise

        parser.run = counted
        return parser

    app.state.parsers = SimpleNamespace(open=watched)
    method, _, arguments = upload(large(tiny_files.target, tmp_path), path=path)
    request = httpx.Request(method, f"http://127.0.0.1{path}", **arguments)
    messages = [{"type": "http.request", "body": request.read()}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    async def use(client: httpx.AsyncClient) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "scheme": "http", "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        await app(scope, receive, send)

    with_client(app, use)
    assert ended == ["disconnected"]
