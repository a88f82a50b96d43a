"""``vcfbert data``: public reference panels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import progress_bars, say

data_app = typer.Typer(help="Download public reference panels.", no_args_is_help=True)


@data_app.command("fetch-1kg")
def fetch_1kg(
    chrom: Annotated[str, typer.Option(help="Autosome, such as 20.")],
    out: Annotated[Path, typer.Option(help="Folder for the panel and the genetic map.")],
    region: Annotated[
        str | None, typer.Option(help="FROM-TO or CHROM:FROM-TO to download. Default: the whole chromosome.")
    ] = None,
) -> None:
    """Download a phased panel of the 1000 Genomes Project and a genetic map over HTTPS.

    Repeat an interrupted command to resume the download.

    **Example**

    vcfbert data fetch-1kg --chrom 20 --region 20:1000000-4000000 --out data/1kg
    """
    from vcfbert.datasets.download import fetch_1kg as fetch

    if region is not None and ":" not in region:
        region = f"{chrom}:{region}"
    with progress_bars("bytes") as add_bar:
        fetched = fetch(chrom, region, out, progress=lambda name: add_bar(name).show)
    say(f"panel: {fetched.panel} ({fetched.records} records)\ngenetic map: {fetched.genetic_map}")
