"""Measures the service on loopback: latency, throughput, overload, memory, cold start and identical output.

    python benchmarks/bench_service.py --bundle models/v19 --json reports/bench_service.json
    python benchmarks/bench_service.py --bundle models/v19 --quick          # fewer requests, 10 s of overload

A `python -m service` process answers POST /v1/impute. Clients are threads of this process, with a connection each.

Latency: 1, 8 and 32 clients send the first target sample repeatedly; time runs from the first byte sent to the last one
received. Throughput: one request has all targets; requests alternate with `impute_file` in this process, with the same
bundle, batch and threads. Overload: `--clients` clients send requests, of which the service accepts 32 at a time; the
others wait as long as it tells them. The memory of the service is sampled meanwhile. The answers, without the header,
are compared with the output of `vcfbert impute`.
"""

from __future__ import annotations

import argparse
import gzip
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pysam
from _machine import describe_machine, write_report
from update_results import service_table

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = (1, 8, 32)
ADMITTED = max(CLIENTS)  # requests that the service handles at the same time
START_SECONDS, ANSWER_SECONDS = 300.0, 600.0
MEMORY_SECONDS = 0.2  # seconds between two samples of the service's memory


@dataclass(frozen=True)
class Settings:
    """What is served and how it is measured."""

    bundle: Path
    targets: Path
    threads: int
    batch_size: int
    requests: int  # for each number of clients, at least one per client
    runs: int  # of the whole file
    overload_clients: int
    overload_seconds: float

    @property
    def environment(self) -> dict[str, str]:
        """Environment that sets thread pools without an option. Waiting threads sleep, as in the Makefile."""
        count = str(self.threads)
        return {"OMP_NUM_THREADS": count, "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass
class Answers:
    """The answers to clients: seconds of each 200, and the number of each other status."""

    seconds: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def quantile_ms(self, fraction: float) -> float | None:
        """Milliseconds within which this fraction of the 200s came; None without any."""
        ordered = sorted(self.seconds)
        return round(1e3 * ordered[min(int(fraction * len(ordered)), len(ordered) - 1)], 1) if ordered else None


class Service:
    """The service process, and the seconds from its start until it was ready."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        values = {
            "MODEL": settings.bundle.resolve(),
            "DATA": folder / "data",
            "PORT": port,
            "THREADS": settings.threads,
            "BATCH_SIZE": settings.batch_size,
            "EMBEDDED_WORKER": "false",
            "POLL_SECONDS": 0,
            "RATE_PER_MINUTE": 10**9,
            "CONCURRENT_PER_KEY": ADMITTED,
        }
        environment = {**os.environ, **settings.environment}
        environment |= {f"VCFBERT_{name}": str(value) for name, value in values.items()}
        self._log = folder / "service.log"
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        try:
            self._wait(started + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - started

    def _wait(self, end: float) -> None:
        with httpx.Client() as client:
            while True:
                if self.process.poll() is not None or time.perf_counter() > end:
                    raise SystemExit(f"the service did not start:\n{self._log.read_text()[-2000:]}")
                try:
                    if client.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.02)

    def memory_mib(self) -> float:
        """Resident memory; 0 on systems without /proc."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ask(client: httpx.Client, url: str, name: str, content: bytes) -> httpx.Response:
    return client.post(f"{url}/v1/impute", files={"file": (name, content)}, timeout=ANSWER_SECONDS)


def run_clients(url: str, content: bytes, count: int, more: Callable[[], bool]) -> Answers:
    """Each of ``count`` clients sends requests while ``more`` returns True."""
    answers, lock = Answers(), threading.Lock()

    def run() -> None:
        with httpx.Client() as client:
            while more():
                started = time.perf_counter()
                try:
                    answer = ask(client, url, "one.vcf.gz", content)
                except httpx.TransportError as error:
                    with lock:
                        answers.others[type(error).__name__] += 1
                    time.sleep(0.1)
                    continue
                seconds = time.perf_counter() - started
                with lock:
                    if answer.status_code == 200:
                        answers.seconds.append(seconds)
                    else:
                        answers.others[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    time.sleep(float(answer.headers.get("Retry-After", 1)))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def latency(service: Service, content: bytes, clients: int, requests: int) -> dict[str, Any]:
    """Measures ``requests`` requests, sent by ``clients`` clients at once."""
    left = iter(range(max(requests, clients)))
    lock = threading.Lock()

    def more() -> bool:
        with lock:
            return next(left, None) is not None

    started = time.perf_counter()
    answers = run_clients(service.url, content, clients, more)
    seconds = time.perf_counter() - started
    return {
        "clients": clients,
        "requests": len(answers.seconds),
        "others": dict(answers.others),
        "p50_ms": answers.quantile_ms(0.5),
        "p99_ms": answers.quantile_ms(0.99),
        "samples_per_second": round(len(answers.seconds) / seconds, 2),
    }


def throughput(service: Service, settings: Settings, folder: Path) -> dict[str, Any]:
    """Imputes all targets alternately by one request and by the library."""
    import torch

    from vcfbert.bundle.load import load_bundle
    from vcfbert.imputation.files import impute_file
    from vcfbert.imputation.imputer import Imputer

    torch.set_num_threads(settings.threads)
    imputer = Imputer(load_bundle(settings.bundle, only_imputes=True), batch_size=settings.batch_size)
    content = settings.targets.read_bytes()
    out = folder / "in_process.vcf.gz"
    by_service, in_process = [], []
    n_samples = impute_file(imputer, settings.targets, out, threads=settings.threads).report.n_samples  # compiles
    with httpx.Client() as client:
        for _ in range(settings.runs):
            started = time.perf_counter()
            answer = ask(client, service.url, "all.vcf.gz", content)
            by_service.append(time.perf_counter() - started)
            if answer.status_code != 200:
                raise SystemExit(f"the service refused the targets: {answer.text}")
            started = time.perf_counter()
            impute_file(imputer, settings.targets, out, threads=settings.threads)
            in_process.append(time.perf_counter() - started)
    service_seconds, own_seconds = statistics.median(by_service), statistics.median(in_process)
    return {
        "samples": n_samples,
        "runs": settings.runs,
        "service_seconds": round(service_seconds, 3),
        "in_process_seconds": round(own_seconds, 3),
        "service_samples_per_second": round(n_samples / service_seconds, 2),
        "in_process_samples_per_second": round(n_samples / own_seconds, 2),
        "ratio": round(own_seconds / service_seconds, 3),
    }


def overload(service: Service, content: bytes, settings: Settings) -> dict[str, Any]:
    """Counts answers and refusals, and samples the memory, while more clients send than the service accepts."""
    end = time.perf_counter() + settings.overload_seconds
    before = service.memory_mib()
    with sampled(service.memory_mib) as memory:
        answers = run_clients(service.url, content, settings.overload_clients, lambda: time.perf_counter() < end)
    half = len(memory) // 2
    return {
        "clients": settings.overload_clients,
        "seconds": settings.overload_seconds,
        "admitted_at_once": ADMITTED,
        "accepted": len(answers.seconds),
        "refused": answers.others.pop("429", 0),
        "others": dict(answers.others),
        "p50_ms": answers.quantile_ms(0.5),
        "p99_ms": answers.quantile_ms(0.99),
        "memory_before_mib": round(before),
        "memory_first_half_mib": round(max(memory[:half], default=before)),
        "memory_second_half_mib": round(max(memory[half:], default=before)),
        "alive": service.process.poll() is None,
    }


@contextmanager
def sampled(look: Callable[[], float]) -> Iterator[list[float]]:
    """Calls ``look`` every MEMORY_SECONDS within the block. Yields the list that its values are added to."""
    seen: list[float] = []
    over = threading.Event()

    def run() -> None:
        while not over.wait(MEMORY_SECONDS):
            seen.append(look())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def is_identical(service: Service, target: Path, settings: Settings, folder: Path) -> bool:
    """Whether the service's answer has the records of the command line's output."""
    out = folder / f"cli-{target.name}"
    command = [sys.executable, "-m", "vcfbert", "impute", "--model", settings.bundle, "--target", target, "--out", out]
    command += ["--threads", str(settings.threads), "--batch-size", str(settings.batch_size), "--device", "cpu"]
    environment = {**os.environ, **settings.environment}
    subprocess.run([*map(str, command)], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    with httpx.Client() as client:
        answer = ask(client, service.url, target.name, target.read_bytes())
    return answer.status_code == 200 and records(answer.content) == records(out.read_bytes())


def records(content: bytes) -> list[bytes]:
    """The line of columns and all records."""
    return [line for line in gzip.decompress(content).splitlines() if not line.startswith(b"##")]


def cut_first_sample(source: Path, out: Path) -> None:
    """Writes a VCF.gz with the first sample alone."""
    with pysam.BGZFile(str(source)) as lines, pysam.BGZFile(str(out), "wb") as handle:
        for line in lines:
            kept = line if line.startswith(b"##") else b"\t".join(line.split(b"\t")[:10])
            handle.write(kept + b"\n")


def bench(settings: Settings, folder: Path) -> dict[str, Any]:
    one = folder / "one.vcf.gz"
    cut_first_sample(settings.targets, one)
    content = one.read_bytes()
    service = Service(settings, folder)
    try:
        tell(f"ready after {service.start_seconds:.1f} s")
        identical = {
            "one sample": is_identical(service, one, settings, folder),
            "all targets": is_identical(service, settings.targets, settings, folder),
        }
        tell(f"identical with the command line's: {identical}")
        latencies = []
        for clients in CLIENTS:
            latencies.append(latency(service, content, clients, settings.requests))
            tell(f"{clients} clients: p50 {latencies[-1]['p50_ms']} ms, p99 {latencies[-1]['p99_ms']} ms")
        beside = throughput(service, settings, folder)
        tell(f"all targets: {beside['ratio']:.0%} of the library's speed")
        overloaded = overload(service, content, settings)
        tell(f"overload: {overloaded['accepted']} accepted, {overloaded['refused']} refused")
        return {
            "start_seconds": round(service.start_seconds, 2),
            "identical": identical,
            "latency": latencies,
            "throughput": beside,
            "overload": overloaded,
        }
    finally:
        service.stop()


def tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "v19", help="the bundle to serve")
    demo = ROOT / "data" / "demo" / "target_array_phased.vcf.gz"
    parser.add_argument("--targets", type=Path, default=demo, help="targets of the bundle's panel, as VCF.gz")
    parser.add_argument("--threads", type=int, default=2, help="of the service and of the library")
    parser.add_argument("--batch-size", type=int, default=64, help="samples a forward pass")
    parser.add_argument("--requests", type=int, default=100, help="of each number of clients")
    parser.add_argument("--runs", type=int, default=3, help="of all targets")
    parser.add_argument("--clients", type=int, default=100, help="of the overload")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    parser.add_argument("--quick", action="store_true", help="32 requests, one run, 10 s of overload")
    parser.add_argument("--json", type=Path, help="where the report goes")
    options = parser.parse_args(arguments)
    settings = Settings(
        options.bundle,
        options.targets,
        options.threads,
        options.batch_size,
        32 if options.quick else options.requests,
        1 if options.quick else options.runs,
        options.clients,
        10.0 if options.quick else options.seconds,
    )
    os.environ.update(settings.environment)  # before this process imports libraries that create thread pools
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="vcfbert-bench-") as name:
        figures = bench(settings, Path(name))
    shown = {"threads": settings.threads, "batch_size": settings.batch_size, "bundle": settings.bundle.name}
    report = {"machine": machine, "settings": shown, **figures}
    print(service_table(report), end="\n\n")
    write_report(options.json, report)


if __name__ == "__main__":
    main()
