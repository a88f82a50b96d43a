"""A disk that is really full or read-only, a tiny tmpfs: requests are refused with the reason, deleting works as long
as it can, and the service goes on afterwards."""

from __future__ import annotations

import os
import signal
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


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """The disk as after an error of its device."""
    # Files that are open for writing prevent a remount; a bind mount can always be made read-only.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def files_of(data: Path, path: str) -> list[Path]:
    return [file for file in (data / "jobs").rglob("*") if file.is_file() and path.rpartition("/")[2] in str(file)]


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


def test_deleting_works_on_a_full_disk_and_makes_room(disk: Path) -> None:
    table = f"sqlite:///{disk / 'table' / 'jobs.sqlite'}"
    (disk / "table").mkdir()
    with service_at(disk / "data", DATABASE_URL=table) as service:
        path = service.send("steps 1 0")
        (job,) = service.all_end([path])
        assert files_of(service.data, path)
        with filled(disk):
            assert service.client.delete(path).status_code == 204
            assert files_of(service.data, path) == []
            assert service.client.get(job["links"]["result"]).status_code in (404, 410)
        for mark in (service.data / "jobs").glob("*.deleted"):
            os.utime(mark, (0, 0))
        wait_for(lambda: service.client.get(path).status_code == 404, "the removal of the row")
        wait_for(lambda: list((service.data / "jobs").iterdir()) == [], "the removal of the mark")


def test_expired_results_are_removed_from_a_full_disk(disk: Path) -> None:
    with service_at(disk / "data", RESULT_HOURS=str(4 / 3600)) as service:
        path = service.send("steps 1 0")
        service.all_end([path])
        with filled(disk):
            wait_for(lambda: not files_of(service.data, path), "the removal of the files")
        wait_for(lambda: service.job(path)["state"] == "expired", "the change of the row")


def test_read_only_folder_is_named_and_nothing_pretends_to_work(disk: Path) -> None:
    table = f"sqlite:///{disk.parent / 'jobs.sqlite'}"
    with service_at(disk / "data", DATABASE_URL=table, EMBEDDED_WORKER="false") as service:
        path = service.send("steps 1 0")
        with read_only(disk):
            for route in ("/v1/impute", "/v1/qc", "/v1/jobs"):
                answer = send(service, route, b"steps 1 0")
                assert code(answer) == (503, "storage_unusable"), (route, answer.text)
                assert str(disk) not in answer.text
            assert code(service.client.delete(path)) == (503, "storage_unusable")
            assert files_of(service.data, path)
            ready = service.client.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
            assert "data folder" in ready.json()["detail"]
            assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/readyz").status_code == 200
        assert service.client.delete(path).status_code == 204
        assert files_of(service.data, path) == []


def test_service_without_a_worker_that_starts_is_not_ready(disk: Path) -> None:
    with service_at(disk / "data") as service:
        pids = set()

        def kill_worker() -> bool:
            pid = service.worker_pid()
            if pid:
                pids.add(pid)
                os.kill(pid, signal.SIGKILL)
            return service.client.get("/readyz").status_code == 503

        wait_for(kill_worker, "a service that is not ready")
        assert "no worker" in service.client.get("/readyz").json()["detail"]
        wait_for(service.is_ready, "a new worker")
