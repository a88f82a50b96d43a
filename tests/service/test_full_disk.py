"""A disk that is really full, a tiny tmpfs: uploads, results and the job table are refused with 507, and the service
goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.helpers.command_line import TinyFiles
from tests.service.jobs.test_processes import Service, service_at, wait_for

SIZE = 8 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a tmpfs cannot be mounted here ({getattr(error, 'stderr', '') or error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(disk: Path, *, but: int = 0) -> Iterator[None]:
    """No more than ``but`` bytes are free, also of what the service lets go a moment later."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as handle:
        for _ in range(5):
            status = os.statvfs(disk)
            handle.write(bytes(max(status.f_bavail * status.f_frsize - but, 0)))
            time.sleep(0.1)
    try:
        yield
    finally:
        ballast.unlink()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def send(service: Service, path: str, content: bytes) -> httpx.Response:
    return service.client.post(path, files={"file": ("mine.vcf", content)}, data={"keep": "true"})


def test_a_full_disk_is_507_and_what_comes_later_is_served(
    disk: Path, tiny_files: TinyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (disk / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(disk / "tmp"))  # where a form's parser spools
    good = tiny_files.target.read_bytes()
    with service_at(disk / "data", module="service", MODEL=str(tiny_files.bundle), THREADS="1") as service:
        assert send(service, "/v1/impute", good).status_code == 200
        with filled(disk):
            for path in ("/v1/impute", "/v1/qc", "/v1/jobs"):
                for content in (good, good + bytes(2 << 20)):  # the second is spooled before any route runs
                    answer = send(service, path, content)
                    assert code(answer) == (507, "disk_full"), (path, len(content), answer.text)
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert str(disk) not in answer.text
            assert service.client.get("/healthz").status_code == 200
            assert service.client.get("/v1/jobs").json() == {"jobs": [], "next": None}
        with filled(disk, but=len(good) + (12 << 10)):  # enough for the upload, and not for the result
            assert code(send(service, "/v1/impute", good)) == (507, "disk_full")
        assert list((disk / "data" / "uploads").iterdir()) == []
        assert list((disk / "data" / "kept").glob("*")) == []
        assert list((disk / "data" / "jobs").glob("*")) == []
        path = service.send(good)
        (job,) = service.all_end([path])
        assert job["state"] == "done"
        assert send(service, "/v1/impute", good).status_code == 200


def test_a_job_whose_result_does_not_fit_fails_and_says_so(disk: Path) -> None:
    """The job's row stands elsewhere: it can be told."""
    table = f"sqlite:///{disk.parent / 'jobs.sqlite'}"
    with service_at(disk / "data", DATABASE_URL=table) as service:
        path = service.send("steps 60 0.05")
        wait_for(lambda: service.in_the_middle(path), "the middle of the job")
        with filled(disk):
            (job,) = service.all_end([path])
        assert (job["state"], job["error"]["code"]) == ("failed", "disk_full")
        (next_job,) = service.all_end([service.send("steps 1 0")])
        assert next_job["state"] == "done"


def test_a_job_table_that_cannot_grow_refuses_and_loses_nothing(disk: Path) -> None:
    with service_at(disk / "data", EMBEDDED_WORKER="false", QUEUE_LIMIT="10000") as service:
        accepted = [service.send("steps 1 0")]
        with filled(disk, but=64 << 10):
            for _ in range(200):
                answer = send(service, "/v1/jobs", b"steps 1 0")
                if answer.status_code != 202:
                    break
                accepted.append(answer.headers["location"])
            assert code(answer) == (507, "disk_full")
            assert code(send(service, "/v1/jobs", b"steps 1 0")) == (507, "disk_full")
            assert service.client.get("/healthz").status_code == 200
        accepted.append(service.send("steps 1 0"))
        listed = {f"/v1/jobs/{job['id']}" for job in service.client.get("/v1/jobs").json()["jobs"]}
        assert listed == set(accepted)
        service.start_worker()
        assert {job["state"] for job in service.all_end(accepted)} == {"done"}
