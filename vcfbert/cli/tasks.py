"""Commands that run as tasks, on a Ray cluster or in this process: their options, their pool, and imputation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vcfbert.cli.console import progress_bars

if TYPE_CHECKING:
    from vcfbert.distributed.job import ChunkSpec, Settings
    from vcfbert.distributed.scheduler import Pool
    from vcfbert.imputation.files import Imputed, ImputeOptions

Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Run on a Ray cluster: auto, HOST:PORT, or local, which starts one on this machine."),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the results of finished tasks, visible to all machines. Repeat an interrupted command with "
        "the same folder to resume it. Default with --ray: a folder beside the output."
    ),
]
ChunkCm = Annotated[float, typer.Option(help="Genetic length of a chunk of sites in cM, at least a window.", min=0.0)]
ChunkSamples = Annotated[int, typer.Option(help="Maximum samples per task.", min=1)]

TASK_LINES: Final = 10  # progress lines of a command where standard error is not a terminal


def impute_in_tasks(
    settings: Settings,
    target: Path,
    out: Path,
    options: ImputeOptions,
    *,
    chunking: ChunkSpec,
    ray: str | None,
    work_dir: Path | None,
    qc_report: Path | None,
) -> Imputed:
    """``vcfbert impute`` with ``--ray`` or ``--work-dir``."""
    from vcfbert.distributed.imputation import plan_job, run_job
    from vcfbert.distributed.tasks import job_tasks

    work = work_dir or out.with_name(f"{out.name}.tasks")
    plan = plan_job(settings, target, out, options, chunking=chunking, work=work, qc_report=qc_report)
    with (
        pool_at(ray, settings.threads, plan.memory) as pool,
        progress_bars("tasks", lines=TASK_LINES) as add_bar,
    ):
        bar = add_bar("imputing")
        bar.begin(len(job_tasks(plan.job)))
        return run_job(plan, pool, out, finished=bar.advance)


def pool_at(ray: str | None, threads: int, memory: int) -> AbstractContextManager[Pool]:
    """The workers of the cluster at ``ray``, or this process without one. ``memory``: bytes per task."""
    from vcfbert.distributed.scheduler import InProcess

    if ray is None:
        return nullcontext(InProcess())
    from vcfbert.distributed.ray_pool import ray_pool

    return ray_pool(ray, threads=threads, memory=memory)
