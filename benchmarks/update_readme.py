"""Puts what the demo and the benchmarks wrote into the README's tables, between their markers.

  python -m benchmarks.update_readme            # after `make demo` and the benchmarks named in the README

Both languages of the README get the same tables. A table without a report stays as it is. ``compare`` comes from the
Markdown of the comparison; the others from the benchmarks' JSON, of which there may be several, each a table of its
own: ``bench_variants.json`` and, say, ``bench_variants_original.json`` or ``bench_variants_cuda.json``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vcfbert.artifacts import write_text

READMES = ("README.md", "README.zh-CN.md")
REPORTS = "reports"

# What the benchmarks do not judge themselves. Of V18 at the original size, on two CPU cores:
ORIGINAL = {"dims": 192, "layers": 10, "heads": 6, "window": 1030, "batch": 4, "device": "cpu", "bf16": False}
ORIGINAL_CORES = 2
ORIGINAL_SECONDS, ORIGINAL_BYTES = 8.0, 4e9
READ_SECONDS, READ_LARGE_SECONDS = 1.0, 60.0  # the demo panel, and LARGE
LARGE = "2,504 samples x 100,000 sites"

Report = Mapping[str, Any]


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    names = list(header)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_line(machine: Report) -> str:
    """CPU, GPU if any, cores and torch in one line."""
    cores = machine["cores"]
    parts = [machine["cpu"], f"{cores} core{'' if cores == 1 else 's'}", machine["gpu"], f"torch {machine['torch']}"]
    return "Machine: " + ", ".join(part for part in parts if part) + "."


def section(table: str, machine: Report, targets: Mapping[str, bool | None]) -> str:
    """The table, its machine, and a line for each target; None is one that the run did not measure."""
    words = {True: "reached", False: "**missed**", None: "not measured"}
    lines = [f"- {words[reached]}: {target}" for target, reached in targets.items()]
    return "\n\n".join([table, machine_line(machine), "\n".join(lines)]).strip()


def variants_table(report: Report) -> str:
    settings = report["settings"]
    size = "{dims} dims, {layers} layers, {heads} heads, {window:,} sites, {batch} samples a batch".format(**settings)
    size += f", {settings['device']}{', bf16' if settings['bf16'] else ''}"
    header = ("case", "K", "ms/batch", "peak MiB", "refresh, s", "epoch, s", "faster", "peak saved", "rise saved")

    def cells(row: Report) -> tuple[str, ...]:
        refresh = f"{row['refresh_seconds']:.4f}" if row["case"] == "v18" else ""
        cost = (f"{row['ms_per_batch']:,.1f}", f"{row['peak_mib']:,}", refresh, f"{row['epoch_seconds']:,.1f}")
        gain = (f"{row['times_faster']:.2f}x", f"{row['memory_saved']:.0%}", f"{row['rise_saved']:.0%}")
        return row["case"].replace("v1", "V1"), str(row["k"]), *cost, *gain

    table = markdown_table(header, map(cells, report["rows"]))
    note = (
        "Faster and saved: beside V17 as designed, every retrieved haplotype passing the encoder for itself; as run, "
        "rows that are alike pass once. Rise: the peak less what the process held with model and batch loaded."
    )
    targets = {f"V18, {name}": reached for name, reached in report["reached"].items()} | original_targets(report)
    return section(f"{size}:\n\n{table}\n\n{note}", report["machine"], targets)


def original_targets(report: Report) -> dict[str, bool]:
    """The absolute targets, where this run is one that they were set for."""
    settings, cores = report["settings"], report["settings"]["threads"] or report["machine"]["cores"]
    if cores > ORIGINAL_CORES or any(settings[name] != value for name, value in ORIGINAL.items()):
        return {}
    targets = {}
    for row in report["rows"]:
        if row["case"] == "v18":
            case = f"V18, k={row['k']}, original size on {ORIGINAL_CORES} cores"
            targets[f"{case}: under {ORIGINAL_SECONDS:g} s a batch"] = row["ms_per_batch"] < 1e3 * ORIGINAL_SECONDS
            targets[f"{case}: under {ORIGINAL_BYTES / 1e9:g} GB"] = row["peak_mib"] * 2**20 < ORIGINAL_BYTES
    return targets


def refresh_table(report: Report) -> str:
    search, epoch = report["search"], report["epoch"]

    def row(what: str, kind: str, refresh: str) -> tuple[str, ...]:
        milliseconds = (search[f"{kind}_search_seconds"] * 1e3, search[refresh] * 1e3)
        return what, f"{search[f'{kind}_key_bytes'] / 2**20:,.2f}", *(f"{value:,.2f}" for value in milliseconds)

    rows = [
        row("flattened, this window refreshed", "flattened", "flattened_refresh_seconds"),
        row("collapsed, whole panel refreshed", "collapsed", "collapsed_refresh_seconds_whole_panel"),
        ("ratio", f"{search['times_less_memory']:.1f}x", f"{search['search_times_faster']:.1f}x", ""),
    ]
    table = markdown_table(("index", "keys, MiB", "search, ms", "refresh, ms"), rows)
    note = (
        f"{search['rows']:,} haplotypes x {search['sites']:,} sites, {search['dims']} dims, {search['backend']}. "
        f"Training: a refresh of {epoch['memory_rows']:,} haplotypes x {epoch['panel_sites']:,} sites takes "
        f"{epoch['refresh_seconds'] * 1e3:.2f} ms, an epoch {epoch['epoch_seconds']:,.1f} s "
        f"({epoch['batches_per_epoch']:,} batches of {epoch['ms_per_batch']:,.1f} ms): "
        f"{epoch['refresh_share_of_epoch']:.4%} of the epoch."
    )
    targets = {
        "both find neighbours at the same distances": search["same_distances"],
        "a refresh takes under 2% of an epoch": epoch["goal_reached"],
    }
    return section(f"{table}\n\n{note}", report["machine"], targets)


def io_table(report: Report) -> str:
    def row(what: str, figure: Report, ratio: float | None = None) -> tuple[str, ...]:
        speed = f"{figure['cells_per_second'] / 1e6:,.2f}"
        return what, f"{figure['cells']:,}", f"{figure['seconds']:,.2f}", speed, f"{ratio:.1f}x" if ratio else ""

    read, write, large = report["read"], report["write"], report.get("read_large")
    rows = [
        row("read VCF.gz", read["vcfbert"], read["times_faster"]),
        row("read VCF.gz, pysam per sample", read["pysam_per_sample"]),
        *([row(f"read VCF.gz, {LARGE}", large)] if large else []),
        row("write VCF.gz", write["vcfbert.vcf.gz"], write["times_faster"]),
        row("write BCF", write["vcfbert.bcf"]),
        row("write VCF", write["vcfbert.vcf"]),
        row("write VCF.gz, pysam per sample", write["pysam_per_sample.vcf.gz"]),
    ]
    table = markdown_table(("route", "cells", "s", "million cells/s", "faster than pysam"), rows)
    large_target = f"{LARGE} read in under {READ_LARGE_SECONDS:g} s" + ("" if large else " (`--large`)")
    targets = {
        f"the demo panel read in under {READ_SECONDS:g} s": read["vcfbert"]["seconds"] < READ_SECONDS,
        large_target: large["seconds"] < READ_LARGE_SECONDS if large else None,
    }
    return section(table, report["machine"], targets)


def without_headings(markdown: str) -> str:
    """Tables and paragraphs, without headings: the README has its own."""
    kept = "\n".join(line for line in markdown.splitlines() if not line.startswith("#"))
    return re.sub(r"\n{3,}", "\n\n", kept).strip()


BENCHMARKS = {"variants": variants_table, "refresh": refresh_table, "io": io_table}


def render(path: Path, table: Callable[[Report], str]) -> str:
    try:
        return table(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{path}: not what its benchmark writes ({error!r}); run the benchmark again") from error


def tables_of(reports: Path) -> dict[str, str | None]:
    """The Markdown for each marker; None where no run left a report."""
    compare = reports / "compare.md"
    tables = {"compare": without_headings(compare.read_text(encoding="utf-8")) if compare.is_file() else None}
    for name, table in BENCHMARKS.items():
        paths = sorted(reports.glob(f"bench_{name}*.json"))
        tables[name] = "\n\n".join(render(path, table) for path in paths) or None
    return tables


def fill(text: str, name: str, table: str, where: str) -> str:
    """The text of the README ``where`` with the table between its markers; SystemExit where these are missing."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"{where}: {count} places for the table {name}, and there should be one")
    return filled


def update(root: Path) -> None:
    """Fills every README under ``root``, or, where something is wrong with one or with a report, none."""
    tables = tables_of(root / REPORTS)
    filled = {}
    for path in (root / name for name in READMES):
        text = path.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = text if table is None else fill(text, name, table, str(path))
        filled[path] = text
    for path, text in filled.items():
        write_text(path, text)
    for name in tables:
        if tables[name] is None:
            print(f"no report for the table {name} in {root / REPORTS}: left as it is")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    update(Path())


if __name__ == "__main__":
    main()
