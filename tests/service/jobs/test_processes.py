"""Jobs while the service and its worker are killed: real processes, a stub model."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pysam
import pytest

from tests.helpers.command_line import TinyFiles, vcfbert
from tests.helpers.stub_service import result_of

ROOT = Path(__file__).parents[3]
SECONDS = 60.0  # for what takes a second on a machine that is not busy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what}: did not come"
        time.sleep(0.05)


class Service:
    """Starts and kills processes on one data folder."""

    def __init__(self, data: Path, module: str, **settings: str) -> None:
        self.data = data
        self.module = module
        self.settings = {
            "DATA": str(data),
            "DRAIN_SECONDS": "1",
            "POLL_SECONDS": "0",
            "PORT": str(free_port()),
        } | settings
        self.started: list[subprocess.Popen[bytes]] = []
        self.process: subprocess.Popen[bytes]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.settings['PORT']}", timeout=SECONDS)

    def start(self) -> None:
        self.process = self.spawn()
        wait_for(self.is_ready, "a service that is ready")

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Starts a worker that belongs to no service, as on another host."""
        return self.spawn("worker")

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {f"VCFBERT_{name}": value for name, value in self.settings.items()}
        with (self.data.parent / "log").open("ab") as log:
            command = [sys.executable, "-m", self.module, *arguments]
            self.started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        return self.started[-1]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.data.parent / "log").read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def worker_pid(self) -> int:
        """Process id of the embedded worker."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for path in children for pid in path.read_text().split()]
        pids = [pid for pid in pids if b"--embedded" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(pids) <= 1
        return pids[0] if pids else 0

    def send(self, upload: str | bytes) -> str:
        content = upload.encode() if isinstance(upload, str) else upload
        answer = self.client.post("/v1/jobs", files={"file": ("mine.vcf", content)})
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def job(self, path: str) -> Any:
        return self.client.get(path).json()

    def in_the_middle(self, path: str) -> bool:
        job = self.job(path)
        assert job["state"] in ("queued", "running"), job
        return bool(job["progress"]["done"] > 1)

    def metrics(self) -> str:
        return self.client.get("/metrics").text

    def all_end(self, paths: list[str]) -> list[Any]:
        def ended() -> bool:
            return all(self.job(path)["state"] not in ("queued", "running") for path in paths)

        wait_for(ended, "the end of all jobs")
        return [self.job(path) for path in paths]

    def finished(self) -> list[str]:
        """Ids of the jobs whose imputation finished, one for each time."""
        journal = self.data / "finished.log"
        return journal.read_text().split() if journal.exists() else []

    def close(self) -> None:
        self.client.close()
        for process in self.started:
            process.kill()
            process.wait()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The address of a Redis started for the test."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of each kind of queue."""
    if request.param == "sqlite":
        yield {}
    else:
        with redis_server(tmp_path) as url:
            yield {"REDIS_URL": url}


@contextmanager
def service_at(data: Path, *, module: str = "tests.helpers.stub_service", **settings: str) -> Iterator[Service]:
    service = Service(data, module, **settings)
    try:
        service.start()
        yield service
    finally:
        service.close()


def test_killed_and_restarted_service_finishes_every_job_once(tmp_path: Path, broker: dict[str, str]) -> None:
    with service_at(tmp_path / "data", **broker) as service:
        uploads = ["steps 60 0.05", "steps 2 0.01", "steps 3 0.01"]
        paths = [service.send(upload) for upload in uploads]
        wait_for(lambda: service.in_the_middle(paths[0]), "the middle of the first job")
        worker = service.worker_pid()
        service.process.kill()
        service.process.wait()
        wait_for(lambda: not is_running(worker), "the worker's end, with its service")
        service.start()
        jobs = service.all_end(paths)
        assert [job["state"] for job in jobs] == ["done"] * 3
        assert [job["attempt"] for job in jobs] == [2, 1, 1]
        assert sorted(service.finished()) == sorted(job["id"] for job in jobs)
        for job, upload in zip(jobs, uploads, strict=True):
            assert service.client.get(job["links"]["result"]).content == result_of(upload.encode(), "1", "vcf.gz")


def test_killed_worker_is_replaced_and_its_job_finishes(tmp_path: Path, broker: dict[str, str]) -> None:
    with service_at(tmp_path / "data", **broker) as service:
        path = service.send("steps 40 0.05")
        wait_for(lambda: service.in_the_middle(path), "the middle of the job")
        worker = service.worker_pid()
        os.kill(worker, signal.SIGKILL)
        (done,) = service.all_end([path])
        assert (done["state"], done["attempt"]) == ("done", 2)
        assert service.finished() == [done["id"]]
        assert service.worker_pid() != worker


def test_job_that_kills_its_workers_fails_and_others_continue(tmp_path: Path) -> None:
    with service_at(tmp_path / "data") as service:
        failed, done = service.all_end([service.send("die"), service.send("steps 1 0")])
        assert (failed["state"], failed["attempt"], failed["error"]["code"]) == ("failed", 3, "worker_died")
        assert done["state"] == "done"


def test_stopped_service_requeues_a_long_job_and_leaves_no_worker(tmp_path: Path) -> None:
    with service_at(tmp_path / "data") as service:
        path = service.send("steps 50 0.05")
        wait_for(lambda: service.in_the_middle(path), "the middle of the job")
        worker = service.worker_pid()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(SECONDS) in (0, -signal.SIGTERM)
        assert not is_running(worker)
        assert service.finished() == []
        service.start()
        (done,) = service.all_end([path])
        assert (done["state"], done["attempt"]) == ("done", 1)
        assert service.finished() == [done["id"]]


def test_two_workers_share_the_jobs_and_none_runs_twice(tmp_path: Path, broker: dict[str, str]) -> None:
    with service_at(tmp_path / "data", EMBEDDED_WORKER="false", **broker) as service:
        paths = [service.send("steps 2 0.02") for _ in range(30)]
        workers = [service.start_worker() for _ in range(2)]
        jobs = service.all_end(paths)
        assert {(job["state"], job["attempt"]) for job in jobs} == {("done", 1)}
        assert sorted(service.finished()) == sorted(job["id"] for job in jobs)
        for worker in workers:
            worker.terminate()
        assert [worker.wait(SECONDS) for worker in workers] == [0, 0]


def test_second_service_on_the_folder_takes_over_when_the_first_is_killed(tmp_path: Path) -> None:
    with service_at(tmp_path / "data") as first, service_at(tmp_path / "data") as second:
        paths = [service.send("steps 20 0.05") for service in (first, second, first)]
        wait_for(lambda: any(second.job(path)["state"] == "running" for path in paths), "the first job")
        first.process.kill()
        first.process.wait()
        jobs = second.all_end(paths)
        assert [job["state"] for job in jobs] == ["done"] * 3
        assert sorted(second.finished()) == sorted(job["id"] for job in jobs)
        assert sum(job["attempt"] for job in jobs) == 4


def test_messages_lost_by_redis_are_sent_again(tmp_path: Path) -> None:
    import redis

    with (
        redis_server(tmp_path) as url,
        service_at(tmp_path / "data", EMBEDDED_WORKER="false", REDIS_URL=url) as service,
    ):
        paths = [service.send("steps 1 0") for _ in range(3)]
        with redis.Redis.from_url(url) as connection:
            connection.flushall()
        service.start_worker()
        assert [job["state"] for job in service.all_end(paths)] == ["done"] * 3


def test_killed_and_resumed_real_job_gives_the_command_lines_result(tmp_path: Path, tiny_files: TinyFiles) -> None:
    with service_at(tmp_path / "data", module="service", MODEL=str(tiny_files.bundle), MAX_SAMPLES="6") as service:
        path = service.send(tiny_files.target.read_bytes())
        wait_for(lambda: service.job(path)["state"] == "running", "the start of the job")
        service.process.kill()
        service.process.wait()
        service.start()
        (job,) = service.all_end([path])
        assert (job["state"], job["attempt"]) == ("done", 2), job
        assert job["summary"]["n_samples"] == 6
        (refused,) = service.all_end([service.send(tiny_files.panel.read_bytes())])  # 30 samples
        assert (refused["state"], refused["error"]["code"]) == ("failed", "too_many_samples")
        assert refused["error"]["where"] == "mine.vcf"
        # The worker measures, and the service that it belongs to tells.
        wait_for(
            lambda: 'targets_imputed_total{by="job",model="default"} 6.0' in service.metrics(),
            "the count of targets",
        )
        assert 'vcfbert_retrieval_seconds_count{variant="v18"}' in service.metrics()
        result, index = (service.client.get(job["links"][name]).content for name in ("result", "index"))
        service.process.terminate()
        service.process.wait(SECONDS)
    expected = tmp_path / "expected.vcf.gz"
    assert vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", expected).code == 0
    assert records(result) == records(expected.read_bytes())
    (tmp_path / "result.vcf.gz").write_bytes(result)
    (tmp_path / "result.vcf.gz.tbi").write_bytes(index)
    with pysam.TabixFile(str(tmp_path / "result.vcf.gz")) as indexed:
        assert list(indexed.fetch("20")) == records(result)


def records(content: bytes) -> list[str]:
    return [line for line in gzip.decompress(content).decode().splitlines() if not line.startswith("#")]
