"""``vcfbert compare``: compares evaluated variants, runs and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_json, results
from vcfbert.errors import InputError


def compare(
    reports: Annotated[
        list[Path] | None, typer.Argument(help="Reports written by the `evaluate` stages, one per variant.")
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(help="Evaluated MLflow runs, comma-separated: run id, run name or models:/NAME@ALIAS."),
    ] = None,
    baselines: Annotated[
        Path | None, typer.Option("--baselines", "--peers", help="Report on the baselines (Beagle, Minimac4).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.json, compare.md, compare.html and the figures.")
    ] = None,
    track: Annotated[
        bool | None,
        typer.Option("--track/--no-track", help="Record the comparison in MLflow. Default: only with --runs."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare variants, runs and baselines.

    The first one named is the reference. The r2 of every other one is compared with that of the reference in each MAF
    bin, with a confidence interval. This requires that both were scored at the same sites and samples, and that their
    sufficient statistics are stored (the .npz file beside a report).

    **Examples**

    vcfbert compare reports/evaluate/v*.json --baselines reports/evaluate/baselines.json --out reports

    vcfbert compare --runs models:/vcfbert@champion,v19 --out reports/challenge
    """
    from vcfbert.reports.comparison import compare as compare_reports
    from vcfbert.tracking.load_evaluations import from_file, from_run, read_report, with_distinct_names
    from vcfbert.tracking.mlflow_tracker import open_tracker
    from vcfbert.tracking.store import project_root

    names = [name.strip() for name in (runs or "").split(",") if name.strip()]
    evaluated = with_distinct_names(
        [*(from_run(name, project_root()) for name in names), *(from_file(path) for path in reports or [])]
    )
    if not evaluated:
        raise InputError(
            "nothing_to_compare", "neither reports nor --runs were given", hint="see vcfbert compare --help"
        )
    read = [one.report for one in evaluated]
    if baselines is not None:
        read[0] = {**read[0], "peers": read_report(baselines)}
    r2_sums = {str(one.report.get("variant")): one.r2_sums for one in evaluated if one.r2_sums is not None}
    comparison = compare_reports(read, r2_sums=r2_sums)
    if out is not None:
        comparison.write(out)
    if bool(names) if track is None else track:
        compared = ", ".join([*names, *map(str, reports or [])])
        comparison.record(open_tracker(system_metrics=False), compared)
    if as_json:
        print_json(comparison.as_dict())
    else:
        results().print(comparison.table())
