"""Text that is not UTF-8, or holds half a surrogate pair, NUL or a host that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.jobs.table import connect, jobs, transaction
from tests.helpers.command_line import TinyFiles
from tests.helpers.hostile_files import hostile_file
from tests.helpers.service import StubSource, call, real_app, settings, upload
from tests.service.routes.test_job_list import add_jobs
from tests.service.routes.test_jobs import running

SURROGATE = b"+2AA-"  # half a surrogate pair in UTF-7


def multipart(fields: dict[str, bytes], charset: str = "") -> dict[str, Any]:
    parts = {**{f'"{name}"': text for name, text in fields.items()}, '"file"; filename="a.vcf"': b"steps 1 0"}
    body = b"".join(
        b"--x\r\nContent-Disposition: form-data; name=" + name.encode() + b"\r\n\r\n" + text + b"\r\n"
        for name, text in parts.items()
    )
    more = f"; charset={charset}" if charset else ""
    return {"content": body + b"--x--\r\n", "headers": {"Content-Type": f"multipart/form-data; boundary=x{more}"}}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/impute", "/v1/qc"])
@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "idna", "UTF-16", '"utf-7"'])
def test_form_of_another_charset_is_refused(tmp_path: Path, path: str, charset: str) -> None:
    app = settings(tmp_path), StubSource()
    form = multipart({"region": SURROGATE}, charset)
    refused, listed = call(app, ("POST", path, form), ("GET", "/v1/jobs", {}))
    assert (refused.status_code, refused.json()["code"]) == (422, "request_invalid")
    assert listed.json()["jobs"] == []


def test_form_in_utf_8_is_accepted(tmp_path: Path) -> None:
    app = settings(tmp_path), StubSource()
    (answer,) = call(app, ("POST", "/v1/jobs", multipart({"region": b"20:1-9"}, "UTF-8")))
    assert answer.status_code == 202


@pytest.mark.parametrize("field", ["region", "fields", "min_dr2", "format"])
@pytest.mark.parametrize("text", [b"20\x00", b"a\x1b", b"\xff\xfe", b"x" * 2000])
def test_option_that_is_no_line_of_text_is_refused_before_it_is_stored(tmp_path: Path, field: str, text: bytes) -> None:
    app = settings(tmp_path), StubSource()
    refused, listed = call(app, ("POST", "/v1/jobs", multipart({field: text})), ("GET", "/v1/jobs", {}))
    assert refused.status_code == 422
    assert listed.json()["jobs"] == []


def test_json_with_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    odd = {"content": b'{"\\ud800": "\\ud800", "chrom": "\\udfff"}', "headers": {"Content-Type": "application/json"}}
    (refused,) = call((settings(tmp_path), StubSource()), ("POST", "/v1/impute/haplotypes", odd))
    assert (refused.status_code, refused.json()["code"]) == (422, "request_invalid")


def test_job_that_was_stored_with_odd_text_is_listed(tmp_path: Path) -> None:
    add_jobs(tmp_path, 1)
    engine = connect("", tmp_path)
    odd = {"code": "\udfff", "detail": "\ud800", "where": None, "hint": None}
    with transaction(engine, writes=True) as connection:
        connection.execute(update(jobs).values(options={"region": "\ud800"}, error=odd, qc={"\ud800": ["\ud800"]}))
    engine.dispose()
    with running(tmp_path) as service:
        (row,) = service.get("/v1/jobs").json()["jobs"]
        assert row["error"]["detail"] == "\\ud800"
        job = service.get(f"/v1/jobs/{row['id']}").json()
        assert job["options"]["region"] == "\\ud800"
        assert service.get(f"/v1/jobs/{row['id']}/qc").status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("job", ["%00", "x", "%ED%A0%80", "a" * 5000])
def test_id_that_is_none_is_unknown(tmp_path: Path, method: str, job: str) -> None:
    (answer,) = call((settings(tmp_path), StubSource()), (method, f"/v1/jobs/{job}", {}))
    assert (answer.status_code, answer.json()["code"]) == (404, "job_unknown")


@pytest.mark.parametrize("host", ["[", "[::1", "]", "a]b", "\x80"])
def test_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    header = {"headers": {b"Host": host.encode("latin-1")}}
    (answer,) = call((settings(tmp_path), StubSource()), ("GET", "/v1/models", header))
    assert (answer.status_code, answer.json()["code"]) == (403, "closed")


@pytest.mark.parametrize("origin", ["http://[", "["])
def test_origin_that_is_none_is_refused(tmp_path: Path, origin: str) -> None:
    (answer,) = call((settings(tmp_path), StubSource()), ("GET", "/v1/models", {"headers": {"Origin": origin}}))
    assert (answer.status_code, answer.json()["code"]) == (403, "closed")


def test_sample_name_with_nul_is_refused(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle)
    text = hostile_file(tmp_path, tiny_files.target, "POS is text").read_text()
    *header, record = text.splitlines()
    columns = header[-1].split("\t")
    columns[9] = "a\0b"
    content = "\n".join([*header[:-1], "\t".join(columns), record.replace("\tx\t", "\t7\t")]) + "\n"
    refused, checked = call(app, upload(content.encode()), upload(content.encode(), path="/v1/qc"))
    assert refused.status_code == 422
    assert checked.status_code == 200
    assert "refused" in checked.json()


def test_result_answers_head(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        path = service.done()
        for what in ("result", "result/index", "qc/sites", "report"):
            whole = service.get(f"{path}/{what}")
            head = service.client.head(f"{path}/{what}", headers={"X-API-Key": "ann's key"})
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == whole.headers["content-length"]


def test_long_form_without_a_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    form = {"content": b"&" * 200_000, "headers": {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}}
    short = {**form, "content": b"region=20&upload=" + b"a" * 32}
    refused, unknown = call((settings(tmp_path), StubSource()), ("POST", "/v1/jobs", form), ("POST", "/v1/jobs", short))
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "upload_unknown")
