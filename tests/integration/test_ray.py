"""A local Ray cluster: workers killed on the way, and the file of one process."""

from __future__ import annotations

import gzip
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.helpers import cluster_tasks
from tests.helpers.command_line import TinyFiles, finished, process, vcfbert
from vcfbert.distributed.imputation import plan_job, run_job
from vcfbert.distributed.job import ChunkSpec, Settings, imputer_of
from vcfbert.distributed.panel import convert_from, plan_panel
from vcfbert.distributed.ray_pool import RayPool, ray_pool
from vcfbert.distributed.scheduler import Task, WorkerLost, run_tasks
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import convert_panels
from vcfbert.imputation.files import DEFAULT_OPTIONS, impute_file

pytest.importorskip("ray")
MEGABYTE = 1 << 20
DEMO = Path(__file__).parents[2] / "data" / "demo"


@pytest.fixture(scope="module")
def pool() -> Iterator[RayPool]:
    with ray_pool("local", threads=1, memory=500 * MEGABYTE, workers=3) as pool:
        yield pool


def address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def task(path: Path, function: object, *arguments: object, **options: object) -> Task:
    return Task(path.name, "test", partial(function, path, *arguments), path, **options)  # type: ignore[arg-type]


def test_ray_replaces_dead_worker(pool: RayPool, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(6)]
    dying = task(tmp_path / "dying", cluster_tasks.die_once, tmp_path / "mark")
    run_tasks([dying, *(task(path, cluster_tasks.write, path.name) for path in paths)], pool)
    assert [path.read_text() for path in paths] == [path.name for path in paths]
    assert dying.done.read_text() == "risen"


def test_task_that_kills_every_worker_ends_job(pool: RayPool, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match="died 4 times") as caught:
        run_tasks([task(tmp_path / "deadly", cluster_tasks.die)], pool)
    assert (caught.value.code, caught.value.exit_code) == ("worker_lost", 3)


def test_task_error_is_raised_unchanged(pool: RayPool, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_tasks([task(tmp_path / "refused", cluster_tasks.refuse)], pool)
    assert str(caught.value) == f"{tmp_path / 'refused'}: this cannot be\n  hint: try another"


def test_copy_of_straggling_task_wins(pool: RayPool, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    slow = task(tmp_path / "slow", cluster_tasks.hang_once, tmp_path / "mark")
    started = time.monotonic()
    run_tasks([slow, *(task(path, cluster_tasks.write, "x") for path in paths)], pool, straggler_seconds=1.0)
    assert slow.done.read_text() == "second"
    assert time.monotonic() - started < 60


def busy_workers() -> list[psutil.Process]:
    """Processes of this cluster's workers that are at a task."""
    return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::impute")]


def kill_a_worker(killed: list[int]) -> None:
    """As soon as one imputes."""
    for _ in range(600):
        for worker in busy_workers():
            worker.send_signal(signal.SIGKILL)
            killed.append(worker.pid)
            return
        time.sleep(0.05)


def test_imputation_survives_dead_worker(pool: RayPool, tiny_files: TinyFiles, tmp_path: Path) -> None:
    settings = Settings(tiny_files.bundle, "fast", False, batch_size=64, threads=1)
    out, whole = tmp_path / "out.vcf.gz", tmp_path / "whole.vcf.gz"
    plan = plan_job(settings, tiny_files.target, out, DEFAULT_OPTIONS, chunking=ChunkSpec(0.0), work=tmp_path / "work")
    assert len(plan.job.chunks) >= 4
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(killed,))
    killer.start()
    imputed = run_job(plan, pool, out)
    killer.join()
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    expected = impute_file(imputer_of(settings), tiny_files.target, whole, DEFAULT_OPTIONS)
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(whole.read_bytes())
    assert imputed == expected


def test_impute_command_joins_ray_cluster(pool: RayPool, tiny_files: TinyFiles, tmp_path: Path) -> None:
    options = ["--model", tiny_files.bundle, "--target", tiny_files.target, "--threads", "1"]
    cluster = ["--ray", address(), "--chunk-cm", "0", "--work-dir", tmp_path / "work"]
    whole, out = tmp_path / "whole.vcf.gz", tmp_path / "out.vcf.gz"
    done = finished(process("impute", *options, "--out", out, *cluster))
    assert done.code == 0, done.err
    assert "tasks" in done.err
    assert vcfbert("impute", *options, "--out", whole).code == 0
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(whole.read_bytes())


def test_ray_address_without_cluster_is_refused(tiny_files: TinyFiles, tmp_path: Path) -> None:
    options = ["--model", tiny_files.bundle, "--target", tiny_files.target, "--out", tmp_path / "out.vcf.gz"]
    done = finished(process("impute", *options, "--ray", "127.0.0.1:9"))
    assert done.code == 2
    assert "no Ray cluster answers at 127.0.0.1:9" in done.err
    assert not (tmp_path / "out.vcf.gz").exists()


def test_panel_converted_by_several_workers_is_complete(pool: RayPool, tmp_path: Path) -> None:
    vcf, region = DEMO / "panel.vcf.gz", "20:1000000-1100000"
    options = {"maps": [DEMO / "chr20.b37.gmap.gz"], "holdout": 0.1, "seed": 17, "region": region}
    job = plan_panel(vcf, region=region, chunk_mb=0.02, work=tmp_path / "work")
    manifest = convert_from(job, pool, tmp_path / "parts", **options)
    assert len(job.regions) == 5
    assert manifest["digest"] == convert_panels([vcf], tmp_path / "whole", **options)["digest"]
