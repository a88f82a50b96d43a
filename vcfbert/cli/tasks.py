"""Options and progress of commands that run as tasks, on a Ray cluster or here. Used by ``cli``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.distributed.scheduler import Pool
    from vcfbert.imputation.files import Imputed, ImputeOptions

Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Run on this Ray cluster: auto, HOST:PORT, or local for one on this machine's cores."),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for finished tasks, seen by all machines: interrupted, the command goes on from there. "
        "With --ray and without this, it lies beside the output."
    ),
]
ChunkCm = Annotated[float, typer.Option(help="Genetic length of a chunk of sites, at least a window.", min=0.0)]
ChunkSamples = Annotated[int, typer.Option(help="Most samples imputed by a task.", min=1)]

_LINES: Final = 10  # of progress where there is no terminal


def impute_in_tasks(
    model: Path,
    target: Path,
    out: Path,
    options: ImputeOptions,
    *,
    ray: str | None,
    work_dir: Path | None,
    chunk_cm: float,
    chunk_samples: int,
    mode: str,
    ignore_phase: bool,
    batch_size: int,
    threads: int,
    device: str,
    qc_report: Path | None,
    messages: Console,
) -> Imputed:
    """``vcfbert impute`` with --ray or --work-dir."""
    from vcfbert.distributed.imputation import plan_job, run_job
    from vcfbert.distributed.job import ChunkSpec, Settings
    from vcfbert.distributed.tasks import job_tasks

    if device == "cuda":
        raise InputError("device_invalid", "tasks run on CPU cores", hint="leave out --device, or --ray and --work-dir")
    settings = Settings(model.resolve(), mode, ignore_phase, batch_size, threads)
    plan = plan_job(
        settings,
        target,
        out,
        options,
        chunking=ChunkSpec(chunk_cm, chunk_samples),
        work=work_dir or out.with_name(f"{out.name}.tasks"),
        qc_report=qc_report,
    )
    total = len(job_tasks(plan.job))
    with pool_at(ray, threads, plan.memory) as pool, task_progress("imputing", total, messages) as finished:
        return run_job(plan, pool, out, finished=finished)


def pool_at(ray: str | None, threads: int, memory: int) -> AbstractContextManager[Pool]:
    """The cluster's workers, or this process where there is none."""
    from vcfbert.distributed.scheduler import InProcess

    if ray is None:
        return nullcontext(InProcess())
    from vcfbert.distributed.ray_pool import ray_pool

    return ray_pool(ray, threads=threads, memory=memory)


@contextmanager
def task_progress(title: str, total: int, messages: Console) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, and elsewhere, as in the log of a batch job, a line each tenth of the way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("tasks"))
    bar = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=messages, disable=not messages.is_terminal
    )
    done = 0

    def finished(more: int) -> None:
        nonlocal done
        before, done = done, done + more
        bar.update(task, completed=done)
        if not messages.is_terminal and done * _LINES // total > before * _LINES // total:
            messages.print(f"{title}  {done}/{total} tasks", highlight=False)

    with bar:
        task = bar.add_task(title, total=total)
        yield finished
