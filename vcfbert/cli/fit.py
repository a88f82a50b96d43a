"""``vcfbert fit``: trains on a panel and writes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vcfbert.cli.console import ConsoleProgress, JsonFlag, print_json, say
from vcfbert.cli.options import Build, check_variant


def fit(
    panel: Annotated[
        list[str],
        typer.Option(
            help="Phased panel: VCF, BCF, VCF Zarr, or a folder that `panel build` wrote. "
            "Repeat it for several files, or write {chrom} in its name."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    map: Annotated[
        list[str] | None,
        typer.Option(help="Genetic map; repeat it or write {chrom}, as for --panel. Default: 1 cM/Mb."),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="v17 (token retrieval), v18 (embedding retrieval) or v19 (Li-Stephens HMMs).")
    ] = "v19",
    profile: Annotated[str, typer.Option(help="Parameter profile: cpu, gpu or original.")] = "cpu",
    holdout: Annotated[
        float | None,
        typer.Option(help="Fraction of samples held out for validation. Default: the profile's.", show_default=False),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Part of the panel to use: CHROM or CHROM:FROM-TO. Default: all.")
    ] = None,
    build: Build = None,
    info: Annotated[
        list[str] | None,
        typer.Option(help="INFO field of the panel that imputed files repeat. Repeat it for several fields."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="Set a parameter, such as train.lr=1e-3. Repeatable.")
    ] = None,
    devices: Annotated[
        int, typer.Option(help="V17 and V18: number of training processes. Start more than one with torchrun.")
    ] = 1,
    track: Annotated[bool, typer.Option(help="Record the run in MLflow.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Train on a panel and write a bundle, without DVC.

    Repeat an interrupted command to continue it.

    **Examples**

    vcfbert fit --panel panel.vcf.gz --map chr20.gmap.gz --out bundles/chr20

    vcfbert fit --panel panel.bcf --variant v17 --profile gpu -S train.epochs=10 --out bundles/v17

    vcfbert fit --panel panels/chr{chrom}.vcf.gz --map maps/chr{chrom}.gmap.gz --out bundles/genome
    """
    from vcfbert.config import with_overrides
    from vcfbert.tracking.mlflow_tracker import open_tracker
    from vcfbert.training.fit import fit_panel

    check_variant(variant)
    prepare: dict[str, Any] = {"panel": panel, "map": map, "region": region, "build": build}
    if info:
        prepare["info"] = tuple(info)
    if holdout is not None:
        prepare["holdout"] = holdout
    config = with_overrides(profile, set_ or [], prepare=prepare)
    with ConsoleProgress() as progress:
        result = fit_panel(
            config, variant, out, tracker=open_tracker(enabled=track), devices=devices, progress=progress
        )
    if result.rank > 0:
        return
    if as_json:
        print_json({"bundle": str(out), "run_id": result.run_id, "metrics": result.metrics, "seconds": result.seconds})
    else:
        say(f"bundle: {out}\nvalidation r2 {result.metrics['val/r2/all']:.4f}, {result.seconds:.0f} s")
