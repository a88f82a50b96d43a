"""Uploads that are sent once: checked, kept for a short time, and named by the job that comes next."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.uploads.files import Upload
from service.uploads.kept import KeptUploads, file_of
from tests.helpers.command_line import TinyFiles
from tests.helpers.service import API_KEYS, bearer, real_app, settings, with_client
from vcfbert.errors import InputError


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle, api_keys=API_KEYS, queue_limit=2)


async def check(client: httpx.AsyncClient, content: bytes, *, key: str = "ann", **form: str) -> Any:
    files = {"file": ("mine.vcf.gz", content)}
    answer = await client.post("/v1/qc", files=files, data={"keep": "true", **form}, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def job_of(client: httpx.AsyncClient, upload: str, *, key: str = "ann", **form: str) -> httpx.Response:
    return await client.post("/v1/jobs", data={"upload": upload, **form}, headers=bearer(key))


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def kept_folders(app: FastAPI) -> list[Path]:
    folder = app.state.settings.data / "kept"
    return list(folder.iterdir()) if folder.is_dir() else []


def test_kept_upload_becomes_a_job_without_a_second_upload(app: FastAPI, tiny_files: TinyFiles) -> None:
    content = tiny_files.target.read_bytes()

    async def use(client: httpx.AsyncClient) -> None:
        checked = await check(client, content)
        upload = checked["upload"]
        assert (upload["name"], upload["size"]) == ("mine.vcf.gz", len(content))
        again = await client.post("/v1/qc", data={"upload": upload["id"]}, headers=bearer("ann"))
        assert again.json() == checked
        accepted = await job_of(client, upload["id"], format="bcf")
        assert accepted.status_code == 202
        job = accepted.json()
        assert (job["name"], job["size"], job["options"]["format"]) == ("mine.vcf.gz", len(content), "bcf")
        assert app.state.jobs.files.target(job["id"]).read_bytes() == content
        assert code(await job_of(client, upload["id"])) == (404, "upload_unknown")  # its job has it now

    with_client(app, use)
    assert kept_folders(app) == []
    assert list((app.state.settings.data / "uploads").iterdir()) == []


def test_kept_upload_of_another_key_is_unknown(app: FastAPI, tiny_files: TinyFiles) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        upload = (await check(client, tiny_files.target.read_bytes()))["upload"]["id"]
        path = f"/v1/qc/{upload}"
        assert code(await client.delete(path, headers=bearer("bob"))) == (404, "upload_unknown")
        assert code(await job_of(client, upload, key="bob")) == (404, "upload_unknown")
        rechecked = await client.post("/v1/qc", data={"upload": upload}, headers=bearer("bob"))
        assert code(rechecked) == (404, "upload_unknown")
        assert (await client.delete(path)).status_code == 401
        assert (await client.delete(path, headers=bearer("ann"))).status_code == 204
        assert code(await job_of(client, upload)) == (404, "upload_unknown")

    with_client(app, use)
    assert kept_folders(app) == []


@pytest.mark.parametrize("upload", ["0" * 32, "..", "../../etc", "%00", "a" * 500, "x"])
def test_upload_ids_with_paths_are_unknown(app: FastAPI, upload: str) -> None:
    async def use(client: httpx.AsyncClient) -> httpx.Response:
        return await job_of(client, upload)

    assert code(with_client(app, use)) == (404, "upload_unknown")


def test_refused_or_unrequested_upload_is_not_kept(app: FastAPI, tiny_files: TinyFiles) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert "upload" not in await check(client, tiny_files.target.read_bytes(), keep="false")
        assert "upload" not in await check(client, tiny_files.unphased.read_bytes())
        assert "upload" not in await check(client, b"no vcf")

    with_client(app, use)
    assert kept_folders(app) == []
    assert list((app.state.settings.data / "uploads").iterdir()) == []


@pytest.mark.parametrize("path", ["/v1/qc", "/v1/jobs"])
def test_request_needs_either_file_or_upload(app: FastAPI, path: str) -> None:
    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        both = {"files": {"file": ("a.vcf", b"x")}, "data": {"upload": "0" * 32}}
        return [await client.post(path, headers=bearer("ann"), **given) for given in ({}, {"data": {}}, both)]

    for answer in with_client(app, use):
        assert code(answer) == (422, "request_invalid")
        assert answer.json()["hint"]


def test_refused_job_leaves_the_kept_upload(app: FastAPI, tiny_files: TinyFiles) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        content = tiny_files.target.read_bytes()
        uploads = [(await check(client, content))["upload"]["id"] for _ in range(3)]
        jobs = [await job_of(client, upload) for upload in uploads]
        assert [job.status_code for job in jobs] == [202, 202, 429]
        assert code(await job_of(client, uploads[2], min_dr2="much")) == (422, "option_min_dr2")
        assert (await client.delete(jobs[0].headers["location"], headers=bearer("ann"))).status_code == 204
        assert (await job_of(client, uploads[2])).status_code == 202

    with_client(app, use)


def test_kept_upload_is_checked_for_another_model(tiny_files: TinyFiles, tmp_path: Path) -> None:
    app = real_app(tmp_path, tiny_files.bundle, api_keys=API_KEYS, models=f"other={tiny_files.bundle}")

    async def use(client: httpx.AsyncClient) -> None:
        checked = await check(client, tiny_files.target.read_bytes())
        asked = {"upload": checked["upload"]["id"], "model": "other"}
        other = await client.post("/v1/qc", data=asked, headers=bearer("ann"))
        assert other.json() == checked  # the same panel, and no longer kept than before
        unknown = await client.post("/v1/qc", data={**asked, "model": "none"}, headers=bearer("ann"))
        assert code(unknown) == (404, "model_unknown")

    with_client(app, use)


class Kept:
    """Kept uploads of a folder, and a clock."""

    def __init__(self, folder: Path, **values: Any) -> None:
        self.now = 1000.0
        self.folder = folder
        self.uploads = KeptUploads(settings(folder, **values), clock=lambda: self.now)

    def keep(self, caller: str = "ann", name: str = "a.vcf") -> str:
        received = self.folder / f"received-{time.monotonic_ns()}"
        received.mkdir()
        (received / "target").write_text("genotypes")
        self.now += 1
        return self.uploads.keep(caller, Upload(received, received / "target", name)).id

    def present(self) -> set[str]:
        return {path.name for path in (self.folder / "data" / "kept").iterdir()}


def test_kept_upload_beyond_the_maximum_replaces_the_oldest(tmp_path: Path) -> None:
    kept = Kept(tmp_path, kept_uploads=2)
    first, other, second, third = kept.keep(), kept.keep("bob"), kept.keep(), kept.keep()
    assert kept.present() == {other, second, third}
    with pytest.raises(InputError, match="no kept upload"):
        kept.uploads.get("ann", first)
    assert kept.uploads.get("ann", third).upload.target.read_text() == "genotypes"


def test_kept_upload_expires_with_and_without_housekeeping(tmp_path: Path) -> None:
    kept = Kept(tmp_path, kept_minutes=1)
    first = kept.keep()
    kept.now += 30
    second = kept.keep()
    kept.now += 29
    with pytest.raises(InputError) as caught:
        kept.uploads.get("ann", first)
    assert (caught.value.code, bool(caught.value.hint)) == ("upload_unknown", True)
    kept.uploads.expire()
    assert kept.present() == {second}


def test_incomplete_kept_folder_is_ignored(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    upload = kept.keep()
    os.remove(tmp_path / "data" / "kept" / upload / "about.json")
    with pytest.raises(InputError, match="no kept upload"):
        kept.uploads.get("ann", upload)
    kept.uploads.expire()


def test_concurrent_uploads_keep_exactly_the_maximum(tmp_path: Path) -> None:
    kept = Kept(tmp_path, kept_uploads=3)
    together = threading.Barrier(8)

    def keep(number: int) -> None:
        received = tmp_path / f"received-{number}"
        received.mkdir()
        (received / "target").write_text("genotypes")
        together.wait()
        kept.uploads.keep("ann", Upload(received, received / "target", "a.vcf"))

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept.present()) == 3


def test_kept_upload_deleted_before_it_is_opened_is_unknown(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    found = kept.uploads.get("ann", kept.keep())
    kept.uploads.discard(found)
    kept.uploads.discard(found)  # once more changes nothing
    with pytest.raises(InputError) as caught, file_of(None, found):
        pass
    assert caught.value.code == "upload_unknown"


def test_upload_that_another_request_removes_meanwhile_is_still_a_job(app: FastAPI, tiny_files: TinyFiles) -> None:
    submit = app.state.jobs.submit

    def removed_meanwhile(*arguments: Any, **options: Any) -> Any:
        job = submit(*arguments, **options)
        for folder in kept_folders(app):
            shutil.rmtree(folder)
        return job

    app.state.jobs.submit = removed_meanwhile

    async def use(client: httpx.AsyncClient) -> None:
        upload = (await check(client, tiny_files.target.read_bytes()))["upload"]["id"]
        assert (await job_of(client, upload)).status_code == 202

    with_client(app, use)
