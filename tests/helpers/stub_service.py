"""A service with a model that only pretends: ``python -m tests.helpers.stub_service`` with VCFBERT_* settings; with
the argument ``worker``, a worker of its own.

What it does is told by the upload's words: ``steps N SECONDS`` takes so long; ``bad``, ``crash``, ``full``, ``memory``
and ``die`` fail in different ways; ``late`` writes its result and then waits to be stopped. Each imputation that comes
to its end leaves a line in ``finished.log`` of the data folder.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from service import worker
from service.settings import Settings, read_settings
from vcfbert.errors import DiskFullError, InputError
from vcfbert.tracking.registry import RegisteredVersion

QC = {"n_samples": 1, "n_used": 7}
SUMMARY = {"n_samples": 1, "n_sites": 5, "dr2_by_maf": []}


class StubModel:
    info: Mapping[str, Any] = {"variant": "v19", "n_sites": 5}
    imputer: Any = None

    def __init__(self, version: RegisteredVersion, journal: Path | None = None) -> None:
        self.version = version
        self.started = threading.Event()
        self._journal = journal

    def warm_up(self) -> None:
        pass

    def impute(
        self,
        target: Path,
        output: Path,
        options: Any,
        *,
        qc_report: Path,
        begin: Callable[[int], None],
        progress: Callable[[int], None],
        cancelled: Callable[[], None],
        parser: Any,
    ) -> Any:
        words = target.read_text().split()
        qc_report.write_text(json.dumps({**QC, "sites": "qc.tsv"}))
        qc_report.with_suffix(".tsv").write_text("chrom\tpos\n20\t7\n")
        steps, seconds = (int(words[1]), float(words[2])) if words[0] == "steps" else (1, 0.0)
        begin(steps)
        output.with_name(f".{output.name}.tmp").write_text("half")
        self.started.set()
        for _ in range(steps):
            cancelled()
            self._fail(words[0], target)
            time.sleep(seconds)
            progress(1)
        output.write_bytes(result_of(target.read_bytes(), str(self.version.number), options.format))
        index = output.with_name(output.name + (".tbi" if options.format == "vcf.gz" else ".csi"))
        index.write_bytes(b"index")
        output.with_name(f".{output.name}.tmp").unlink()
        while words[0] == "late":
            cancelled()
            time.sleep(0.01)
        if self._journal is not None:
            with self._journal.open("a") as handle:
                handle.write(f"{target.parent.name}\n")
        return SimpleNamespace(report=SimpleNamespace(summary=lambda: dict(QC), n_samples=1), summary=dict(SUMMARY))

    def _fail(self, word: str, target: Path) -> None:
        if word == "bad":
            raise InputError("unphased", f"{target} is not phased", where=f"{target}: line 3", hint="phase it")
        if word == "crash":
            raise ZeroDivisionError("NA12878")
        if word == "full":
            raise DiskFullError("disk_full", "the output does not fit on the disk", where=str(target.parent))
        if word == "memory":
            raise MemoryError
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)


def result_of(upload: bytes, version: str, extension: str) -> bytes:
    return gzip.compress(b"\n".join([upload, version.encode(), extension.encode()]), mtime=0)


class StubSource:
    """Serves version 1 until ``version`` says otherwise."""

    def __init__(self, settings: Settings) -> None:
        self.version = "1"
        self.loaded: list[str] = []
        self.models: list[StubModel] = []
        self._journal = settings.data / "finished.log"

    def find(self, reference: str) -> RegisteredVersion:
        return RegisteredVersion("stub", int(self.version), self.version * 64)

    def find_cached(self, reference: str) -> RegisteredVersion | None:
        return None

    def load(self, version: RegisteredVersion, device_guard: object = None) -> StubModel:
        self.loaded.append(str(version.number))
        self.models.append(StubModel(version, self._journal))
        return self.models[-1]


def serve() -> None:
    import uvicorn

    from service.app import create_app
    from service.http import logs
    from service.jobs.observer import receive
    from service.jobs.supervisor import WorkerSupervisor

    settings = read_settings()
    logs.configure(settings.log_json)
    app = create_app(settings, StubSource(settings))  # type: ignore[arg-type]
    if settings.embedded_worker:
        command = (sys.executable, "-m", "tests.helpers.stub_service", "worker")
        app.state.jobs.supervisor = WorkerSupervisor(settings, partial(receive, observer=app.state.metrics), command)
    uvicorn.run(app, host="127.0.0.1", port=settings.port, log_level="warning")


@dataclass(frozen=True)
class StubOptions:
    region: str | None = None
    format: str = "vcf.gz"
    fields: tuple[str, ...] = ("GT",)
    min_dr2: float = 0.0
    chain: str | None = None

    @classmethod
    def parse(cls, **given: object) -> StubOptions:
        assert not any(given.values())
        return cls()


def without_torch() -> None:
    """Puts a stub in the place of the module that imports torch, which would take most of the time of these
    processes' short lives."""
    stub = ModuleType("vcfbert.imputation.files")
    stub.ImputeOptions = StubOptions  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub


if __name__ == "__main__":
    without_torch()
    if "worker" in sys.argv[1:]:
        worker.main(lambda settings, observe_retrieval: StubSource(settings))  # type: ignore[arg-type,return-value]
    else:
        serve()
