"""``vcfbert compare``: evaluations side by side. Parses arguments and calls the library."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vcfbert.errors import InputError

console = Console()


def compare(
    reports: Annotated[
        list[Path] | None, typer.Argument(help="Reports that `evaluate` stages wrote, one a variant.")
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(help="Evaluated runs of MLflow, comma-separated: id, name, or models:/NAME@ALIAS."),
    ] = None,
    baselines: Annotated[
        Path | None, typer.Option("--baselines", "--peers", help="Report of the baselines (Beagle, Minimac4).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, .md, .html, .png and .svg.")] = None,
    track: Annotated[
        bool | None, typer.Option("--track/--no-track", help="Record in MLflow. Without: if --runs is given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")] = False,
) -> None:
    """Put variants, runs and baselines side by side.

    The first that is named is the baseline: r2 of the others is compared with it in pairs, by MAF bin, with intervals,
    where their moments are known (beside a report, as .npz) and they were scored at the same sites and samples.

    **Examples**

    vcfbert compare reports/evaluate/v*.json --baselines reports/evaluate/baselines.json --out reports

    vcfbert compare --runs models:/vcfbert@champion,v19 --out reports/challenge
    """
    from vcfbert.reports.comparison import compare as compare_reports
    from vcfbert.tracking.load_evaluations import from_file, from_run, read_report, told_apart
    from vcfbert.tracking.mlflow_tracker import open_tracker
    from vcfbert.tracking.store import project_root

    names = [name.strip() for name in (runs or "").split(",") if name.strip()]
    evaluated = told_apart(
        [*(from_run(name, project_root()) for name in names), *(from_file(path) for path in reports or [])]
    )
    if not evaluated:
        raise InputError(
            "nothing_to_compare", "neither reports nor --runs are given", hint="see vcfbert compare --help"
        )
    read = [one.report for one in evaluated]
    if baselines is not None:
        read[0] = {**read[0], "peers": read_report(baselines)}
    moments = {str(one.report.get("variant")): one.moments for one in evaluated if one.moments is not None}
    comparison = compare_reports(read, moments=moments)
    if out is not None:
        comparison.write(out)
    if bool(names) if track is None else track:
        compared = ", ".join([*names, *map(str, reports or [])])
        comparison.record(open_tracker(system_metrics=False), compared)
    if as_json:
        sys.stdout.write(json.dumps(comparison.as_dict(), indent=1) + "\n")
    else:
        console.print(comparison.table())
