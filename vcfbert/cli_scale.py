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
    from vcfbert.imputation import Imputed, ImputeOptions
    from vcfbert.scheduler import Pool

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
    from vcfbert.chunked import Cutting, Settings, plan_job, run_job

    if device == "cuda":
        raise InputError("device_invalid", "tasks run on CPU cores", hint="leave out --device, or --ray and --work-dir")
    settings = Settings(model.resolve(), mode, ignore_phase, batch_size, threads)
    plan = plan_job(
        settings,
        target,
        out,
        options,
        cutting=Cutting(chunk_cm, chunk_samples),
        work=work_dir or out.with_name(f"{out.name}.tasks"),
        qc_report=qc_report,
    )
    total = len(plan.job.tasks())
    with pool_at(ray, threads, plan.memory) as pool, task_progress("imputing", total, messages) as finished:
        return run_job(plan, pool, out, finished=finished)


def pool_at(ray: str | None, threads: int, memory: int) -> AbstractContextManager[Pool]:
    """The cluster's workers, or this process where there is none."""
    from vcfbert.scheduler import InProcess

    if ray is None:
        return nullcontext(InProcess())
    from vcfbert.distributed import ray_pool

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


def panel_build(
    panel: Annotated[Path, typer.Argument(help="Phased reference panel: VCF, VCF.gz or BCF.")],
    out: Annotated[Path, typer.Option(help="Folder of the panel store to write.")],
    map: Annotated[Path | None, typer.Option(help="Genetic map; without one, 1 cM/Mb.")] = None,
    region: Annotated[str | None, typer.Option(help="CHROM or CHROM:FROM-TO of the panel.")] = None,
    holdout: Annotated[float, typer.Option(help="Share of samples held out for validation.", min=0.0, max=1.0)] = 0.1,
    seed: Annotated[int, typer.Option(help="Draws those samples.")] = 17,
    ray: Ray = None,
    work_dir: WorkDir = None,
    chunk_mb: Annotated[float, typer.Option(help="Length of the regions read by a task, in Mb.", min=0.001)] = 5.0,
) -> None:
    """Convert a panel into a store, which other commands open at once.

    With --ray or --work-dir, regions of an indexed file are read by tasks.

    **Examples**

    vcfbert panel build panel.vcf.gz --map chr20.gmap.gz --out panels/chr20

    vcfbert panel build panel.bcf --out /shared/chr20 --ray auto --work-dir /shared/tasks
    """
    from vcfbert.artifacts import check_replaceable
    from vcfbert.genotypes.store import KIND, build_panel

    messages = Console(stderr=True)
    check_replaceable(out, KIND)
    if ray is None and work_dir is None:
        built = build_panel(panel, out, genetic_map=map, region=region, holdout=holdout, seed=seed)
    else:
        from vcfbert.chunked_panel import build_from, plan_panel

        work = work_dir or out.with_name(f"{out.name}.tasks")
        job = plan_panel(panel, region=region, chunk_mb=chunk_mb, work=work)
        with (
            pool_at(ray, threads=1, memory=job.memory) as pool,
            task_progress("converting", len(job.regions), messages) as finished,
        ):
            built = build_from(
                job, pool, out, genetic_map=map, region=region, holdout=holdout, seed=seed, finished=finished
            )
    typer.echo(f"{out}: {len(built.samples)} samples, {built.n_sites} sites of {built.sites.chrom}, {built.digest}")
