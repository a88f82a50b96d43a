"""The client and `vcfbert remote`, with the real service on loopback and with a server that misbehaves."""

from __future__ import annotations

import builtins
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pysam
import pytest

from service.app import create_app
from service.models.manager import LOADING
from tests.browser.servers import served
from tests.helpers.command_line import Outcome, TinyFiles, finished, process, vcfbert
from tests.helpers.refusals import edited, set_calls
from tests.helpers.service import API_KEYS, KEYS, settings
from vcfbert.client import Client, RefusedError
from vcfbert.errors import InputError, MissingExtraError, ResourceError, VcfbertError

# ----- The real service


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Iterator[str]:
    """The service and its worker, with a tiny bundle and two keys."""
    folder = tmp_path_factory.mktemp("service")
    values = {"model": str(tiny_files.bundle), "embedded_worker": True, "api_keys": API_KEYS, "threads": 1}
    app = create_app(settings(folder, **values, max_small_samples=6, log_json=False, drain_seconds=1))
    with served(app) as address:
        while app.state.manager.not_ready == LOADING:
            threading.Event().wait(0.02)
        assert app.state.manager.not_ready is None
        yield address


@pytest.fixture
def ann(url: str) -> Iterator[Client]:
    with Client(url, KEYS["ann"], patience=5.0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> list[str]:
    """Records that the command line writes for the tiny target."""
    out = tmp_path_factory.mktemp("expected") / "out.vcf.gz"
    done = vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", out)
    assert done.code == 0, done.err
    return records(out)


@pytest.fixture(scope="module")
def unphased(tmp_path_factory: pytest.TempPathFactory, tiny_files: TinyFiles) -> Path:
    """A target that V18 refuses, with a QC report."""
    out = tmp_path_factory.mktemp("bad") / "unphased.vcf.gz"
    return edited(tiny_files.target, out, set_calls(lambda call: call.replace("|", "/")))


def raises(kind: type[VcfbertError], code: str) -> Any:
    return pytest.raises(kind, check=lambda error: error.code == code)


def records(path: Path) -> list[str]:
    return [line for line in gzip.decompress(path.read_bytes()).decode().splitlines() if not line.startswith("#")]


def remote(url: str, command: str, *arguments: object) -> Outcome:
    """Runs `vcfbert` in another process, because the service in this one logs to the same streams."""
    return finished(process("remote", command, *arguments, "--url", url, "--key", KEYS["ann"]))


def test_impute_equals_the_command_line(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    qc = ann.impute(tiny_files.target, tmp_path / "out.vcf.gz", progress=lambda *seen: told.append(seen))
    assert records(tmp_path / "out.vcf.gz") == expected
    assert qc["n_samples"] == 6
    size = tiny_files.target.stat().st_size
    assert told[-1] == (size, size)
    assert [path.name for path in tmp_path.iterdir()] == ["out.vcf.gz"]


def test_impute_passes_its_options_to_the_service(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    first, last = (int(line.split("\t")[1]) for line in (expected[10], expected[20]))
    out = tmp_path / "out.bcf"
    ann.impute(tiny_files.target, out, region=f"20:{first}-{last}", fields=["GT", "DS"], min_dr2=0.0)
    with pysam.VariantFile(str(out)) as handle:
        found = list(handle)
        assert (found[0].pos, found[-1].pos) == (first, last)
        assert set(found[0].format) == {"GT", "DS"}


def test_job_is_submitted_watched_downloaded_and_deleted(
    ann: Client, url: str, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    job = ann.submit(tiny_files.target)
    assert job["id"] in [each["id"] for each in ann.jobs()]
    states: list[str] = []
    done = ann.wait(job["id"], progress=lambda each: states.append(each["state"]))
    assert states[-1] == "done"
    assert done["progress"]["share"] == 1
    told: list[tuple[int, int]] = []
    out = ann.download(job["id"], tmp_path / "out.vcf.gz", progress=lambda *seen: told.append(seen))
    ann.download(job["id"], tmp_path / "out.vcf.gz.tbi", what="result/index")
    assert records(out) == expected
    assert told[-1] == (out.stat().st_size,) * 2
    with pysam.TabixFile(str(out)) as indexed:
        assert list(indexed.fetch("20")) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"out.vcf.gz", "out.vcf.gz.tbi"}
    with Client(url, KEYS["bob"]) as bob, raises(InputError, "job_unknown"):
        bob.job(job["id"])
    ann.cancel(job["id"])
    with raises(InputError, "job_unknown"):
        ann.wait(job["id"])


def test_download_completes_a_partial_file(
    ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    job = ann.wait(ann.submit(tiny_files.target)["id"])
    whole = ann.download(job["id"], tmp_path / "whole.vcf.gz").read_bytes()
    for have in (1, len(whole) // 2, len(whole)):
        part = tmp_path / f".out.vcf.gz.{job['id']}.part"
        part.write_bytes(whole[:have])
        told: list[int] = []
        out = ann.download(
            job["id"], tmp_path / "out.vcf.gz", progress=lambda done, total, told=told: told.append(done)
        )
        assert out.read_bytes() == whole
        assert min(told, default=len(whole)) > have or (have == len(whole) and told == [])
        assert not part.exists()
    (tmp_path / f".long.vcf.gz.{job['id']}.part").write_bytes(whole + b"more than there is")
    assert ann.download(job["id"], tmp_path / "long.vcf.gz").read_bytes() == whole


def test_refusal_has_the_services_code_hint_and_place(
    ann: Client, url: str, tiny_files: TinyFiles, unphased: Path, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as refused:
        ann.impute(unphased, tmp_path / "out.vcf.gz")
    assert refused.value.code == "unphased"
    assert refused.value.hint
    assert refused.value.qc is not None
    assert refused.value.qc["phased_share"] < 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RefusedError) as failed:
        ann.wait(ann.submit(unphased)["id"])
    assert (failed.value.code, failed.value.hint) == (refused.value.code, refused.value.hint)
    assert failed.value.qc is not None
    (tmp_path / "cut.vcf.gz").write_bytes(tiny_files.target.read_bytes()[:-28])
    with pytest.raises(RefusedError) as cut:
        ann.impute(tmp_path / "cut.vcf.gz", tmp_path / "out.vcf.gz")
    assert "cut.vcf.gz" in (cut.value.where or "")
    with raises(InputError, "model_unknown"):
        ann.submit(tiny_files.target, model="other")
    for name, code in (("../../models", "job_unknown"), ("0" * 32, "job_unknown")):
        with raises(InputError, code):
            ann.job(name)
    with Client(url, "wrong") as stranger, raises(InputError, "unauthorized"):
        stranger.models()


def test_invalid_arguments_are_refused_before_any_request(ann: Client, tiny_files: TinyFiles, tmp_path: Path) -> None:
    with raises(InputError, "file_not_found"):
        ann.qc(tmp_path / "none.vcf.gz")
    with raises(InputError, "option_format"):
        ann.impute(tiny_files.target, tmp_path / "out.vcf")
    for url, key in (
        ("ftp://host", None),
        ("http://", None),
        ("http://host:port", None),
        ("http://host", "two\nlines"),
    ):
        with raises(InputError, "url_invalid"):
            Client(url, key)


def test_qc_and_models_return_the_services_answers(ann: Client, tiny_files: TinyFiles, unphased: Path) -> None:
    assert "refused" not in ann.qc(tiny_files.target)
    assert ann.qc(unphased)["refused"]["code"] == "unphased"
    (model,) = ann.models()["models"]
    assert (model["alias"], model["variant"], model["n_sites"]) == ("default", "v18", 300)


def test_remote_impute_equals_the_command_line(
    url: str, ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    out, report = tmp_path / "out.vcf.gz", tmp_path / "qc.json"
    done = remote(url, "impute", "--target", tiny_files.target, "--out", out, "--qc-report", report, "--json")
    assert done.code == 0, done.err
    assert records(out) == expected
    assert done.json["qc"] == json.loads(report.read_text())
    assert {path.name for path in tmp_path.iterdir()} == {"out.vcf.gz", "out.vcf.gz.tbi", "qc.json"}
    job_id = done.err.split()[1]
    assert job_id not in [job["id"] for job in ann.jobs()]


def test_remote_lists_fetches_and_cancels_jobs(
    url: str, ann: Client, tiny_files: TinyFiles, expected: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.vcf.gz"
    kept = remote(url, "impute", "--target", tiny_files.target, "--out", out, "--keep")
    job_id = kept.err.split()[1]
    assert kept.out.startswith("6 samples, ")
    assert f"{job_id}  " in remote(url, "jobs").out
    again = tmp_path / "again.vcf.gz"
    assert remote(url, "fetch", job_id, "--out", again).out == f"{again}\n"
    assert records(again) == expected
    assert "option_format" in remote(url, "fetch", job_id, "--out", tmp_path / "out.bcf").err
    assert remote(url, "jobs", "--cancel", job_id).code == 0
    assert job_id not in remote(url, "jobs").out
    assert "default  version " in remote(url, "models").out


def test_remote_refusal_exits_with_2_after_the_report(url: str, unphased: Path, tmp_path: Path) -> None:
    report = tmp_path / "qc.json"
    checked = remote(url, "qc", "--target", unphased, "--json", report)
    assert (checked.code, json.loads(report.read_text())["refused"]["code"]) == (2, "unphased")
    assert "phased_share" in checked.out
    report.unlink()
    imputed = remote(url, "impute", "--target", unphased, "--out", tmp_path / "out.vcf.gz", "--qc-report", report)
    assert imputed.code == 2
    assert "error [unphased]" in imputed.err
    assert "hint" in imputed.err
    assert json.loads(report.read_text())["phased_share"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["qc.json"]


def test_key_comes_from_a_file_or_the_environment(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEYS["ann"] + "\n")
    assert finished(process("remote", "models", "--url", url, "--key-file", tmp_path / "key")).code == 0
    assert "file_not_found" in finished(process("remote", "models", "--url", url, "--key-file", tmp_path / "no")).err
    assert "unauthorized" in finished(process("remote", "models", "--url", url)).err
    monkeypatch.setenv("VCFBERT_URL", url)
    monkeypatch.setenv("VCFBERT_KEY", KEYS["bob"])
    assert finished(process("remote", "models")).code == 0


# ----- A server that misbehaves

JOB = "0123456789abcdef0123456789abcdef"
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

    time = SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0])
    monkeypatch.setattr("vcfbert.client.client.time", time)
    monkeypatch.setattr("vcfbert.client.connection.time", time)
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
        scripted(says(200, {"id": JOB, "state": "running"})) as (client, _),
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
    with scripted(says(200, {"id": JOB, **job})) as (client, _), pytest.raises(kind) as ended:
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
