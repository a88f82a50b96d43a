"""``vcfbert panel``: reference panels. Parses arguments and calls ``vcfbert.genotypes``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vcfbert.cli.tasks import Ray, WorkDir, pool_at, task_progress
from vcfbert.errors import InputError

panel_app = typer.Typer(help="Reference panels.", no_args_is_help=True)
messages = Console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]


@panel_app.command("build")
def panel_build(
    panel: Annotated[
        list[str],
        typer.Option(help="Phased VCF, VCF.gz, BCF or VCF Zarr; several times, or with {chrom} in its name."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    map: Annotated[
        list[str] | None, typer.Option(help="Genetic map, likewise; without one, 1 cM/Mb is assumed.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="CHROM or CHROM:FROM-TO to take.")] = None,
    build: Annotated[
        str | None, typer.Option(help="b37 or b38: where X has its PARs. Without: by X's length in the header.")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Share of samples held out for validation.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the samples held out.")] = 17,
    ray: Ray = None,
    work_dir: WorkDir = None,
    chunk_mb: Annotated[float, typer.Option(help="Length of the regions read by a task, in Mb.", min=0.001)] = 5.0,
    as_json: JsonFlag = False,
) -> None:
    """Convert a panel of your own, once, to what training and `vcfbert fit --panel` read fast.

    Files are read in one pass with memory that does not grow with them. A file may hold several chromosomes. Samples
    may be haploid on a chromosome, or on X outside of its PAR: they count with the one haplotype that they have.

    With --ray or --work-dir, regions of one indexed file of one chromosome are read by tasks.

    **Examples**

    vcfbert panel build --panel chr20.vcf.gz --map chr20.gmap.gz --out panels/chr20

    vcfbert panel build --panel chr{chrom}.bcf --map chr{chrom}.gmap.gz --out panels/genome

    vcfbert panel build --panel chrX.vcf.gz --build b38 --map chrX.b38.gmap.gz --out panels/chrX

    vcfbert panel build --panel cohort.vcz --region 20 --map genome.gmap.gz --out panels/chr20

    vcfbert panel build --panel panel.bcf --out /shared/chr20 --ray auto --work-dir /shared/tasks
    """
    from vcfbert.artifacts import check_replaceable
    from vcfbert.genotypes.conversion import chromosome_files
    from vcfbert.genotypes.store import KIND

    check_replaceable(out, KIND)
    options = {"maps": [Path(path) for path in map or ()], "region": region, "holdout": holdout, "seed": seed}
    files = chromosome_files(panel)
    if ray is None and work_dir is None:
        manifest = _convert(files, out, build=build, **options)
    else:
        manifest = _convert_in_tasks(files, out, ray, work_dir, chunk_mb, build, options)
    if as_json:
        shown = ("chrom", "start", "stop", "n_sites", "n_haplotypes", "digest", "genetic_map")
        stored = [{key: facts[key] for key in shown} for facts in manifest["stretches"]]
        _print_json({"out": str(out), "digest": manifest["digest"], "stretches": stored})
        return
    for facts in manifest["stretches"]:
        haploid = f" ({len(facts['haploid'])} haploid)" if facts["haploid"] else ""
        held_out = f"{len(facts['validation'])} held out"
        _say(f"{_region(facts)}: {facts['n_sites']} sites, {len(facts['samples'])} samples{haploid}, {held_out}")
    _say(f"panel: {out}")


def _convert(files: list[Path], out: Path, **options: Any) -> dict[str, Any]:
    from vcfbert.genotypes.conversion import convert_panels

    columns = (SpinnerColumn(), TextColumn("reading"), TextColumn("{task.completed} sites"), TimeElapsedColumn())
    with Progress(*columns, console=messages, disable=not messages.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        return convert_panels(files, out, progress=lambda n_sites: bar.update(task, completed=n_sites), **options)


def _convert_in_tasks(
    files: list[Path],
    out: Path,
    ray: str | None,
    work_dir: Path | None,
    chunk_mb: float,
    build: str | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    from vcfbert.distributed.panel import convert_from, plan_panel

    if len(files) != 1:
        where = ", ".join(str(file) for file in files)
        raise InputError("one_file", "tasks read one file", where=where, hint="call it once for each file")
    work = work_dir or out.with_name(f"{out.name}.tasks")
    job = plan_panel(files[0], region=options["region"], chunk_mb=chunk_mb, work=work, build=build)
    with (
        pool_at(ray, threads=1, memory=job.memory) as pool,
        task_progress("converting", len(job.regions), messages) as finished,
    ):
        return convert_from(job, pool, out, finished=finished, **options)


def _region(facts: dict[str, Any]) -> str:
    from vcfbert.genotypes.regions import Region

    return str(Region(facts["chrom"], facts["start"], facts["stop"]))


@panel_app.command("inspect")
def panel_inspect(
    path: Annotated[Path, typer.Argument(help="A panel store, or a VCF, VCF.gz, BCF or VCF Zarr.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what a panel holds. Example: vcfbert panel inspect data/work/panel"""
    from vcfbert.genotypes.conversion import panel_from_genotypes
    from vcfbert.genotypes.store import is_panel, open_panels
    from vcfbert.genotypes.vcf_reader import read_genotypes

    panels = open_panels(path) if is_panel(path) else (panel_from_genotypes(read_genotypes(path)),)
    found = [_facts(panel) for panel in panels]
    if as_json:
        _print_json(found)
        return
    for facts in found:
        width = max(map(len, facts))
        for key, value in facts.items():
            _say(f"{key:<{width}}  {value}")


def _facts(panel: Any) -> dict[str, Any]:
    import numpy as np

    from vcfbert.constants import MAF_BIN_NAMES
    from vcfbert.metrics.accuracy import maf_bin

    bins = maf_bin(panel.af)
    return {
        "chromosome": panel.sites.chrom,
        "positions": f"{panel.sites.pos[0]}-{panel.sites.pos[-1]}",
        "cM": round(float(panel.cm[-1] - panel.cm[0]), 4),
        "samples": len(panel.samples),
        "haploid samples": len(panel.haploid),
        "validation samples": len(panel.validation),
        "sites": panel.n_sites,
        **{f"sites, MAF {name}": int(np.sum(bins == i)) for i, name in enumerate(MAF_BIN_NAMES)},
        "monomorphic sites": int(np.sum(bins < 0)),
        "digest": panel.digest,
    }


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=1))


def _say(text: str) -> None:
    # Not through rich: it would wrap lines and read [brackets] in paths as markup.
    sys.stdout.write(f"{text}\n")
