"""``vcfbert panel``: builds and inspects panel stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcfbert.cli.console import JsonFlag, print_facts, print_json, progress_bars, say
from vcfbert.cli.options import Build
from vcfbert.cli.tasks import TASK_LINES, Ray, WorkDir, pool_at
from vcfbert.errors import InputError

if TYPE_CHECKING:
    from vcfbert.genotypes.panel import Panel

panel_app = typer.Typer(help="Build and inspect panel stores.", no_args_is_help=True)


@panel_app.command("build")
def panel_build(
    panel: Annotated[
        list[str],
        typer.Option(
            help="Phased panel: VCF, VCF.gz, BCF or VCF Zarr. Repeat it for several files, or write {chrom} in its "
            "name."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    map: Annotated[
        list[str] | None,
        typer.Option(help="Genetic map; repeat it or write {chrom}, as for --panel. Default: 1 cM/Mb."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="CHROM or CHROM:FROM-TO to convert. Default: all.")] = None,
    build: Build = None,
    info: Annotated[
        list[str] | None,
        typer.Option(help="INFO field that imputed files repeat, of all records. Repeat it for several fields."),
    ] = None,
    max_missing: Annotated[
        float,
        typer.Option(
            help="Greatest share of missing and unphased heterozygous calls that is filled; 0: none is.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.1,
    holdout: Annotated[float, typer.Option(help="Fraction of samples held out for validation.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed that chooses the samples held out.")] = 17,
    ray: Ray = None,
    work_dir: WorkDir = None,
    chunk_mb: Annotated[float, typer.Option(help="Length of the region that one task reads, in Mb.", min=0.001)] = 5.0,
    as_json: JsonFlag = False,
) -> None:
    """Convert a panel to a panel store, which `vcfbert fit --panel` and training read fast.

    Files are read in one pass, with host memory that does not grow with their length. A file may hold several
    chromosomes. A sample that is haploid, as males are on X outside the PARs, contributes its one haplotype.

    With --ray or --work-dir, tasks read the regions of one indexed file that holds one chromosome.

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
    maps = [Path(path) for path in map or ()]
    options = {"maps": maps, "region": region, "info": info or [], "holdout": holdout, "seed": seed}
    files = chromosome_files(panel)
    if ray is None and work_dir is None:
        manifest = _convert(files, out, max_missing, build=build, **options)
    else:
        manifest = _convert_in_tasks(files, out, ray, work_dir, chunk_mb, build, options)
    if as_json:
        shown = ("chrom", "start", "stop", "n_sites", "n_haplotypes", "digest", "genetic_map")
        stored = [{key: facts[key] for key in shown} for facts in manifest["stretches"]]
        print_json({"out": str(out), "digest": manifest["digest"], "stretches": stored})
        return
    for facts in manifest["stretches"]:
        haploid = f" ({len(facts['haploid'])} haploid)" if facts["haploid"] else ""
        held_out = f"{len(facts['validation'])} held out"
        say(f"{_region(facts)}: {facts['n_sites']} sites, {len(facts['samples'])} samples{haploid}, {held_out}")
    say(f"panel: {out}")


def _convert(files: list[Path], out: Path, max_missing: float, **options: Any) -> dict[str, Any]:
    from vcfbert.copying.panel_filler import PanelFiller
    from vcfbert.genotypes.conversion import convert_panels

    with progress_bars("sites") as add_bar:
        filler = PanelFiller(max_missing, progress=add_bar("filling").show) if max_missing > 0.0 else None
        return convert_panels(files, out, filler=filler, progress=add_bar("reading").show, **options)


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
        raise InputError(
            "one_file", "--ray and --work-dir convert one file", where=where, hint="run it once for each file"
        )
    work = work_dir or out.with_name(f"{out.name}.tasks")
    job = plan_panel(
        files[0], region=options["region"], chunk_mb=chunk_mb, work=work, build=build, info=options.pop("info")
    )
    with (
        pool_at(ray, threads=1, memory=job.memory) as pool,
        progress_bars("tasks", lines=TASK_LINES) as add_bar,
    ):
        bar = add_bar("converting")
        bar.begin(len(job.regions))
        return convert_from(job, pool, out, finished=bar.advance, **options)


def _region(facts: dict[str, Any]) -> str:
    from vcfbert.genotypes.regions import Region

    return str(Region(facts["chrom"], facts["start"], facts["stop"]))


@panel_app.command("inspect")
def panel_inspect(
    path: Annotated[Path, typer.Argument(help="Panel store, VCF, VCF.gz, BCF or VCF Zarr.")],
    build: Build = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what a panel holds: each chromosome, and of X each of its three parts.

    **Example**

    vcfbert panel inspect data/work/panel
    """
    from vcfbert.genotypes.chromosome_length import length_of
    from vcfbert.genotypes.conversion import panel_from_genotypes
    from vcfbert.genotypes.sex_chromosomes import BUILDS, NO_PARS, build_of
    from vcfbert.genotypes.store import is_panel, open_panels
    from vcfbert.genotypes.vcf_reader import read_parts

    if is_panel(path):
        panels = open_panels(path)
    else:
        length = length_of(path, "X")
        build = None if build == NO_PARS else build
        named = build is not None or length in {one.x_length for one in BUILDS.values()}
        parts = read_parts(path, build=build_of(length, build, str(path)) if named else None, symbolic=True)
        panels = tuple(panel_from_genotypes(part, file=path) for part in parts)
    found = [_facts(panel) for panel in panels]
    if as_json:
        print_json(found)
        return
    for facts in found:
        print_facts(facts)


def _facts(panel: Panel) -> dict[str, Any]:
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
        "symbolic alleles": int(panel.sites.symbolic.sum()),
        "filled alleles, share": round(panel.filled, 6),
        **{f"sites, MAF {name}": int(np.sum(bins == i)) for i, name in enumerate(MAF_BIN_NAMES)},
        "monomorphic sites": int(np.sum(bins < 0)),
        "digest": panel.digest,
    }
