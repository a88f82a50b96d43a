"""The client of a server that misbehaves: cuts, refuses, answers what no vcfbert service answers."""

from __future__ import annotations

import builtins
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.command_line import vcfbert
from vcfbert.client import Client
from vcfbert.errors import InputError, MissingExtraError, ResourceError, VcfbertError


def raises(kind: type[VcfbertError], code: str) -> Any:
    return pytest.raises(kind, check=lambda error: error.code == code)


JOB = "0123456789abcdef0123456789abcdef"
ROW: dict[str, Any] = {
    "id": JOB, "state": "running", "created": "2026-03-01T12:00:00Z", "name": "a.vcf", "model": {},
    "options": {"format": "vcf.gz"}, "progress": {"done": 0, "total": 0, "share": 0.0},
    "qc": None, "summary": None, "error": None,
}  # fmt: skip
Step = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def scripted(*steps: Step) -> Iterator[tuple[Client, list[Any]]]:
    """A client of a server that answers each request by the next step and repeats the last one; and the list of
    requests that it received."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers.get("Range"), body))
            self.close_connection = True  # and each answer says so
            steps[min(len(asked), len(steps)) - 1](self)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_address[1]}") as client:
            yield client, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(status: int, body: Any, **headers: str) -> Step:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(content)), "Connection": "close", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return step


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection without an answer."""


def refuses(code: str, status: int, **headers: str) -> Step:
    return says(status, {"code": code, "detail": "no", "where": "there", "hint": "do this"}, **headers)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's pauses, which take no time."""
    pauses: list[float] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    stub = SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0])
    monkeypatch.setattr("vcfbert.client.client.time", stub)
    monkeypatch.setattr("vcfbert.client.connection.time", stub)
    return pauses


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target.vcf"
    path.write_bytes(b"the target's bytes " * 10)
    return path


@pytest.mark.parametrize(
    "refusal", [refuses("queue_full", 429, Retry_After="7"), says(503, b"<html>", Retry_After="7")]
)
def test_temporary_refusal_is_retried_after_retry_after(refusal: Step, slept: list[float], target: Path) -> None:
    with scripted(refusal, refusal, says(202, {"id": JOB})) as (client, asked):
        assert client.submit(target)["id"] == JOB
    assert slept == [7.0, 7.0]
    assert all(target.read_bytes() in body for _, _, _, body in asked)  # whole each time


def test_temporary_refusal_is_raised_when_patience_ends(slept: list[float], target: Path) -> None:
    with (
        scripted(refuses("rate_limited", 429, Retry_After="50")) as (client, asked),
        pytest.raises(ResourceError) as refused,
    ):
        client.models()
    error = refused.value
    assert (error.code, error.where, error.hint) == ("rate_limited", "there", "do this")
    assert slept == [50.0, 50.0]
    assert len(asked) == 3


@pytest.mark.parametrize(("code", "status"), [("disk_full", 507), ("internal", 500), ("too_slow", 503)])
def test_other_refusals_are_raised_at_once(code: str, status: int, slept: list[float], target: Path) -> None:
    with (
        scripted(refuses(code, status, Retry_After="1")) as (client, asked),
        raises(ResourceError, code),
    ):
        client.submit(target)
    assert (slept, len(asked)) == ([], 1)


def listed(*names: str, cursor: str | None = None) -> Any:
    common = {"state": "done", "created": "2026-03-01T12:00:00Z", "progress": {"done": 1, "total": 1, "share": 1}}
    return says(200, {"jobs": [{"id": name, "name": name, **common} for name in names], "next": cursor})


def test_pages_of_jobs_are_followed_up_to_a_limit(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(listed("a", "b", cursor="1&2"), listed(cursor="3"), listed("c")) as (client, asked):
        assert [job["id"] for job in client.jobs()] == ["a", "b", "c"]
        assert [path for _, path, _, _ in asked] == ["/v1/jobs", "/v1/jobs?cursor=1%262", "/v1/jobs?cursor=3"]
    monkeypatch.setattr("vcfbert.client.client._MAX_PAGES", 2)
    with (
        scripted(listed("a", cursor="1"), listed("a", cursor="1")) as (client, asked),
        raises(ResourceError, "answer_invalid"),
    ):
        client.jobs()


def test_cut_connection_is_retried_except_for_uploads(slept: list[float], target: Path) -> None:
    with scripted(cut, cut, says(200, {"jobs": []})) as (client, asked):
        assert client.jobs() == []
        assert slept == pytest.approx([0.2, 0.3])
        assert len(asked) == 3
    with scripted(cut) as (client, asked):
        with raises(ResourceError, "service_unreachable"):
            client.submit(target)
        assert len(asked) == 1
    with raises(ResourceError, "service_unreachable"):
        Client(client.url).submit(target)  # the server has stopped
    assert sum(slept) > 100


def test_wait_pauses_longer_each_time_and_ends_at_its_timeout(slept: list[float]) -> None:
    with (
        scripted(says(200, ROW)) as (client, _),
        raises(ResourceError, "not_done"),
    ):
        client.wait(JOB, timeout=60.0)
    assert slept == sorted(slept)
    assert slept[0] < 0.5
    assert 5 < slept[-1] <= 10
    assert sum(slept) <= 60


@pytest.mark.parametrize(
    ("job", "kind", "code"),
    [
        ({"state": "cancelled", "error": None}, InputError, "cancelled"),
        ({"state": "expired", "error": None}, InputError, "expired"),
        ({"state": "failed", "error": {"code": "not_vcf", "detail": "no", "where": "line 1"}}, InputError, "not_vcf"),
        ({"state": "failed", "error": {"code": "worker_died", "detail": "no"}}, ResourceError, "worker_died"),
    ],
)
def test_wait_raises_the_error_of_a_job_without_result(job: dict[str, Any], kind: type[Exception], code: str) -> None:
    with scripted(says(200, ROW | job)) as (client, _), pytest.raises(kind) as ended:
        client.wait(JOB)
    assert ended.value.code == code


def test_download_cut_repeatedly_completes(slept: list[float], tmp_path: Path) -> None:
    content = bytes(range(256)) * 40

    def half(handler: BaseHTTPRequestHandler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("Connection", "close")
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start : start + 3000])

    with scripted(half) as (client, asked):
        assert client.download(JOB, tmp_path / "out.vcf.gz").read_bytes() == content
    assert [bytes_ for _, _, bytes_, _ in asked] == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.vcf.gz"]


def test_download_without_progress_fails_and_keeps_its_bytes(slept: list[float], tmp_path: Path) -> None:
    with (
        scripted(says(200, b"begun", Content_Length="10"), cut) as (client, _),
        raises(ResourceError, "service_unreachable"),
    ):
        client.download(JOB, tmp_path / "out.vcf.gz")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"begun"]
    assert not (tmp_path / "out.vcf.gz").exists()


def test_impute_cut_midway_leaves_no_file(target: Path, tmp_path: Path) -> None:
    with (
        scripted(says(200, b"begun", Content_Length="10", X_Vcfbert_Qc="{}")) as (client, _),
        raises(ResourceError, "service_unreachable"),
    ):
        client.impute(target, tmp_path / "out.vcf.gz")
    assert list(tmp_path.iterdir()) == [target]


def test_answer_of_another_server_is_refused(target: Path) -> None:
    with (
        scripted(says(200, b"<html>hello</html>")) as (client, _),
        raises(ResourceError, "answer_invalid"),
    ):
        client.models()
    with scripted(says(404, b"<html>hello</html>")) as (client, _), raises(InputError, "http_404"):
        client.submit(target)


@pytest.mark.parametrize("body", [{}, {"models": None, "jobs": 1, "id": 5, "state": []}, {"a": "[" * 9}])
def test_json_answer_of_another_server_is_refused(body: dict[str, Any], target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf.gz"
    with scripted(says(200, body)) as (client, _):
        calls: list[Callable[[], object]] = [
            client.models, client.jobs, lambda: client.job(JOB), lambda: client.wait(JOB),
            lambda: client.submit(target), lambda: client.qc(target), lambda: client.impute(target, out),
        ]  # fmt: skip
        for call in calls:
            with raises(ResourceError, "answer_invalid"):
                call()
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("answer", [says(200, b"{", Content_Length="10"), says(200, b"no", Content_Encoding="gzip")])
def test_json_answer_cut_or_damaged_is_an_error_of_the_service(answer: Step, target: Path) -> None:
    with scripted(answer) as (client, _):
        for call in (client.models, lambda: client.qc(target), lambda: client.submit(target)):
            with raises(ResourceError, "service_unreachable"):
                call()


@pytest.mark.parametrize("answer", [says(206, b"abcde", Content_Range="bytes 0-2/3"), says(416, b"")])
def test_download_of_a_file_that_never_fits_ends_with_patience(
    answer: Step, slept: list[float], tmp_path: Path
) -> None:
    with scripted(answer) as (client, _), raises(ResourceError, "answer_invalid"):
        client.download(JOB, tmp_path / "out.vcf.gz")
    assert 100 < sum(slept) < 200
    assert not (tmp_path / "out.vcf.gz").exists()


def test_download_without_length_is_refused(tmp_path: Path) -> None:
    def without_length(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"file")

    with scripted(without_length) as (client, _), raises(ResourceError, "answer_invalid"):
        client.download(JOB, tmp_path / "out.vcf.gz")
    assert list(tmp_path.iterdir()) == []


def test_client_without_httpx_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "httpx":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError) as missing:
        Client("http://127.0.0.1")
    assert "vcfbert[client]" in (missing.value.hint or "")


MODEL = {"alias": "default", "version": "1", "regions": [{"chrom": "20", "from": 1, "to": 9}]}
QC = {"n_samples": 1, "n_used": 2, "n_target_sites": 3}
DONE = ROW | {"state": "done", "qc": QC, "summary": {}}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"models": ["v19"], "unavailable": []}, "models[0]"),
        ({"models": [MODEL, {"alias": "x"}], "unavailable": []}, "models[1].version"),
        ({"models": [MODEL | {"regions": [{"chrom": 20}]}], "unavailable": []}, "models[0].regions[0].chrom"),
        ({"models": [], "unavailable": [None]}, "unavailable[0]"),
        ({"jobs": [JOB]}, "jobs[0]"),
        ({"jobs": [ROW, ROW | {"progress": {}}]}, "jobs[1].progress.done"),
        ({"jobs": [ROW | {"error": "no"}]}, "jobs[0].error"),
        (ROW | {"progress": None}, "progress"),
        (ROW | {"options": []}, "options"),
        (DONE | {"qc": None}, "qc"),
        (DONE | {"qc": QC | {"n_used": "2"}}, "qc.n_used"),
        (ROW | {"error": {"code": 5}, "state": "failed"}, "error.code"),
        ({"refused": ["unphased"], "n_samples": 1}, "refused"),
        ({"refused": {"code": "unphased"}}, "refused.detail"),
    ],
)
def test_json_answer_of_a_wrong_shape_is_refused_with_its_place(body: dict[str, Any], place: str, target: Path) -> None:
    with scripted(says(200, body)) as (client, _):
        calls: dict[str, Callable[[], object]] = {
            "models": client.models, "jobs": client.jobs, "refused": lambda: client.qc(target)
        }  # fmt: skip
        call = next((call for name, call in calls.items() if name in body), lambda: client.wait(JOB))
        with pytest.raises(ResourceError) as refused:
            call()
    assert refused.value.code == "answer_invalid"
    assert repr(place) in refused.value.what
    assert refused.value.hint


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (("models",), {"models": [{}], "unavailable": []}),
        (("jobs",), {"jobs": [{}]}),
        (("jobs", "--json"), {"jobs": [1]}),
        (("fetch", JOB, "--out", "out.vcf.gz"), {"id": JOB, "state": "done"}),
    ],
)
def test_remote_command_with_an_answer_of_a_wrong_shape_exits_with_3(
    command: tuple[str, ...], body: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with scripted(says(200, body)) as (client, _):
        done = vcfbert("remote", *command, "--url", client.url)
    assert (done.code, "error [answer_invalid]" in done.err, "hint" in done.err) == (3, True, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/v1/models", "http://[", "", "http://127.0.0.1:1/v1/jobs", "x" * 9000])
def test_redirect_is_refused_and_not_followed(status: int, location: str, target: Path) -> None:
    with scripted(says(status, b"", Location=location)) as (client, asked):
        for call in (client.models, lambda: client.submit(target)):
            with pytest.raises(VcfbertError) as refused:
                call()
            assert refused.value.code in (f"http_{status}", "service_unreachable")
            assert refused.value.hint
            assert len(refused.value.hint) < 400
    assert {path for _, path, _, _ in asked} <= {"/v1/models", "/v1/jobs"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        {"code": ["x"], "detail": {}},
        {"code": "c", "detail": "d", "where": 5},
        {"code": "c", "detail": "d", "qc": "x"},
        [1],
        "x",
    ],
)
def test_error_answer_of_a_wrong_shape_is_an_error_by_its_status(body: Any, target: Path) -> None:
    with scripted(says(404, body)) as (client, _):
        for call in (client.models, lambda: client.qc(target)):
            with pytest.raises(InputError) as refused:
                call()
            assert refused.value.code == "http_404"
            assert "address" in (refused.value.hint or "")


@pytest.mark.parametrize("qc", ["{", "5", "[" * 5000, ""])
def test_imputed_file_without_a_valid_qc_header_is_refused(qc: str, target: Path, tmp_path: Path) -> None:
    with scripted(says(200, b"file", X_Vcfbert_Qc=qc)) as (client, _), raises(ResourceError, "answer_invalid"):
        client.impute(target, tmp_path / "out.vcf.gz")
    assert list(tmp_path.iterdir()) == [target]


def test_range_of_a_number_with_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    number = "9" * 6000
    with (
        scripted(says(206, b"abc", Content_Range=f"bytes 0-2/{number}")) as (client, _),
        raises(ResourceError, "answer_invalid"),
    ):
        client.download(JOB, tmp_path / "out.vcf.gz")


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Sends a body that never ends, as long as it is read."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b" " * 1000)


def test_answer_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    monkeypatch.setattr("vcfbert.client.connection._MAX_ANSWER_BYTES", 100_000)
    with scripted(endless) as (client, _):
        for call in (client.models, lambda: client.submit(target), lambda: client.cancel(JOB)):
            with raises(ResourceError, "answer_invalid"):
                call()
    monkeypatch.setattr("vcfbert.client.connection._MAX_ANSWER_BYTES", 1 << 40)
    monkeypatch.setattr("vcfbert.client.connection._READ_SECONDS", 0.2)
    with scripted(endless) as (client, _), raises(ResourceError, "answer_invalid"):
        client.models()


def test_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    """It accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with Client(url, timeout=0.2, patience=0.5) as client:
            for call in (client.models, client.jobs, lambda: client.download(JOB, tmp_path / "out.vcf.gz")):
                with raises(ResourceError, "service_unreachable"):
                    call()
    assert time.monotonic() - started < 20
    assert list(tmp_path.iterdir()) == []
