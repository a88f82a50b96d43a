"""Measures the tasks of a distributed imputation: CPU seconds, peak memory and transferred bytes, by stage.

The figures are in docs/explanation/scale.md.

Tasks run one after the other, each in a process of its own, like on a worker. Other programs hardly change CPU seconds.
Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
from collections.abc import Collection, Hashable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vcfbert.distributed.imputation import plan_job, run_job
from vcfbert.distributed.job import ChunkSpec, Settings, imputer_of
from vcfbert.distributed.scheduler import Task
from vcfbert.imputation.files import ImputeOptions


class MeasuredProcesses:
    """A pool of one worker that runs each task in a new process and records its costs."""

    slots = 1

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rows: list[dict[str, Any]] = []

    def submit(self, task: Task) -> Hashable:
        return task

    def wait(self, handles: Collection[Hashable], timeout: float) -> Collection[Hashable]:
        return list(handles)

    def result(self, handle: Hashable) -> float:
        assert isinstance(handle, Task)
        here, there = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=measured, args=(handle, self.settings, there))
        process.start()
        there.close()
        row = here.recv()
        process.join()
        self.rows.append({"task": handle.name, "stage": handle.stage, **row})
        return float(row["cpu_seconds"])

    def cancel(self, handle: Hashable) -> None:
        pass


def measured(task: Task, settings: Settings, out: Connection) -> None:
    """The process of one task: sends its CPU seconds, host memory and the size of its files, in MiB."""
    imputer_of(settings)  # a worker loads the bundle once, for all its tasks
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task.run()  # and compiled kernels at their first call
    began = seconds()
    task.run()
    used = seconds() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [task.done, task.done.with_suffix("")] if task.stage == "write" else [task.done]
    out.send(
        {
            "cpu_seconds": used,
            "loaded_mb": loaded / 1024,
            "peak_mb": peak / 1024,
            "file_mb": sum(file.stat().st_size for file in files if file.exists()) / 2**20,
        }
    )


def seconds() -> float:
    """CPU seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--mode", default="accurate")
    parser.add_argument("--chunk-cm", type=float, default=5.0)
    parser.add_argument("--chunk-samples", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    settings = Settings(arguments.model.resolve(), arguments.mode, False, batch_size=64, threads=1)
    chunking = ChunkSpec(arguments.chunk_cm, arguments.chunk_samples)
    folder = Path(tempfile.mkdtemp(prefix="vcfbert-scale-"))
    try:
        out = folder / "out.vcf.gz"
        plan = plan_job(settings, arguments.target, out, ImputeOptions(), chunking=chunking, work=folder / "work")
        pool = MeasuredProcesses(settings)
        run_job(plan, pool, out)
    finally:
        shutil.rmtree(folder)
    (panel,) = imputer_of(settings).bundle.panels
    facts = {
        "haplotypes": panel.n_haplotypes,
        "sites": panel.n_sites,
        "mb": float(panel.sites.pos[-1] - panel.sites.pos[0]) / 1e6,
        "typed": plan.report.n_used,
        "samples": len(plan.samples),
        "chunks": len(plan.job.chunks),
        "groups": len(plan.job.groups),
        "estimated_mb": plan.memory / 2**20,
    }
    print(json.dumps(facts))
    print(f"{'stage':<8} {'tasks':>5} {'CPU s':>8} {'most CPU s':>10} {'loaded MB':>9} {'peak MB':>8} {'file MB':>8}")
    for stage in dict.fromkeys(row["stage"] for row in pool.rows):
        rows = [row for row in pool.rows if row["stage"] == stage]
        cpu = [row["cpu_seconds"] for row in rows]
        loaded, peak = (max(row[name] for row in rows) for name in ("loaded_mb", "peak_mb"))
        size = sum(row["file_mb"] for row in rows)
        print(f"{stage:<8} {len(rows):>5} {sum(cpu):>8.2f} {max(cpu):>10.2f} {loaded:>9.0f} {peak:>8.0f} {size:>8.1f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"facts": facts, "tasks": pool.rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
