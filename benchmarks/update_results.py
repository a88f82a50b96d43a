"""Write the figures of the demo and the benchmarks into the tables of docs/results and of the README.

  python benchmarks/update_results.py           # after `make demo` and the benchmarks named on the pages

Each table lies between two markers. A table without a report stays as it is. ``compare`` comes from the Markdown of the
comparison, the others from the benchmarks' JSON. A benchmark may have several reports, each a table of its own, such as
``bench_variants.json`` and ``bench_variants_original.json``. Both languages of the README have the table ``summary``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

from _imputation_tables import imputation_table, million_table
from _tables import Report, fill, markdown_table, plural, section

from vcfbert.artifacts import write_text

READMES = ("README.md", "README.zh-CN.md")
RESULTS = "docs/results"
PAGES = {  # table -> its page
    "compare": "accuracy",
    "imputation": "processes",
    "million": "processes",
    "ablation": "ablation",
    "variants": "variants",
    "refresh": "refresh",
    "io": "io",
    "service": "service",
}
REPORTS = "reports"

# Targets that the benchmarks do not check themselves. For V18 at the original size, on two CPU cores:
ORIGINAL = {"dims": 192, "layers": 10, "heads": 6, "window": 1030, "batch": 4, "device": "cpu", "bf16": False}
ORIGINAL_CORES = 2
ORIGINAL_SECONDS, ORIGINAL_BYTES = 8.0, 4e9
READ_SECONDS, READ_LARGE_SECONDS = 1.0, 60.0  # the demo panel, and LARGE
LARGE = "2,504 samples x 100,000 sites"
SERVICE_FRACTION, SERVICE_GROWTH = 0.8, 1.1  # of the throughput within a process; of memory under overload


def variants_table(report: Report) -> str:
    settings = report["settings"]
    size = "{dims} dims, {layers} layers, {heads} heads, {window:,} sites, {batch} samples per batch".format(**settings)
    size += f", {settings['device']}{', bf16' if settings['bf16'] else ''}"
    header = ("case", "K", "ms/batch", "peak MiB", "refresh, s", "epoch, s", "faster", "peak saved", "rise saved")

    def cells(row: Report) -> tuple[str, ...]:
        refresh = f"{row['refresh_seconds']:.4f}" if row["case"] == "v18" else ""
        cost = (f"{row['ms_per_batch']:,.1f}", f"{row['peak_mib']:,}", refresh, f"{row['epoch_seconds']:,.1f}")
        gain = (f"{row['times_faster']:.2f}x", f"{row['memory_saved']:.0%}", f"{row['rise_saved']:.0%}")
        return row["case"].replace("v1", "V1"), str(row["k"]), *cost, *gain

    table = markdown_table(header, map(cells, report["rows"]))
    note = (
        "Faster and saved: compared with V17 as designed, which encodes every retrieved haplotype. V17 as run encodes "
        "identical rows once. Rise: the peak minus what the process held with model and batch loaded."
    )
    targets = {f"V18, {name}": reached for name, reached in report["reached"].items()} | original_targets(report)
    return section(f"{size}:\n\n{table}\n\n{note}", report["machine"], targets)


def original_targets(report: Report) -> dict[str, bool]:
    """The absolute targets, if they were set for the size of this run."""
    settings, cores = report["settings"], report["settings"]["threads"] or report["machine"]["cores"]
    if cores > ORIGINAL_CORES or any(settings[name] != value for name, value in ORIGINAL.items()):
        return {}
    targets = {}
    for row in report["rows"]:
        if row["case"] == "v18":
            case = f"V18, k={row['k']}, original size on {ORIGINAL_CORES} cores"
            targets[f"{case}: under {ORIGINAL_SECONDS:g} s per batch"] = row["ms_per_batch"] < 1e3 * ORIGINAL_SECONDS
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
        *(row(f"read 22 chromosomes, {kind}", by) for kind, by in report.get("read_chromosomes", {}).items()),
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


def ablation_table(report: Report) -> str:
    bins = list(dict.fromkeys(name for row in report["rows"] for name in row["r2"]))

    def cells(row: Report) -> tuple[str, ...]:
        label = row["label"] + ("*" if row["note"] else "")
        cost = (str(row.get("k", "")), f"{row['cpu_seconds']:,.1f}" if "cpu_seconds" in row else "")
        return label, row["targets"], *(f"{row['r2'][name]:.4f}" if name in row["r2"] else "" for name in bins), *cost

    header = ("method", "targets", *(f"r² {name}" for name in bins), "K", "CPU, s")
    table = markdown_table(header, (cells(row) for row in report["rows"] if row["r2"]))
    notes = [f"- * {row['label']}: {row['note']}" for row in report["rows"] if row["note"] and row["r2"]]
    notes += [f"- not run: {row['label']}: {row['note']}" for row in report["rows"] if not row["r2"]]
    return section("\n\n".join([table, *(["\n".join(notes)] if notes else [])]), report["machine"], {})


def service_table(report: Report) -> str:
    def cells(row: Report) -> tuple[str, ...]:
        times = (row["p50_ms"], row["p99_ms"])
        return str(row["clients"]), f"{row['requests']:,}", *(f"{ms:,.0f}" for ms in times), rate(row)

    def rate(row: Report) -> str:
        return f"{row['samples_per_second']:,.1f}"

    beside, over, settings = report["throughput"], report["overload"], report["settings"]
    table = markdown_table(("clients", "requests", "p50, ms", "p99, ms", "samples/s"), map(cells, report["latency"]))
    missed = [f"{row['clients']} clients: {row['others']}" for row in report["latency"] if row["others"]]
    notes = [
        f"One sample per request, {settings['threads']} threads. "
        f"All {plural(beside['samples'], 'sample')} in one request: "
        f"{beside['service_samples_per_second']:,.1f} samples/s, {beside['ratio']:.0%} of the "
        f"{beside['in_process_samples_per_second']:,.1f} in process, batches of "
        f"{settings['batch_size']}. Ready {report['start_seconds']:.1f} s after start.",
        f"Overload, {over['clients']} clients for {over['seconds']:g} s, {over['admitted_at_once']} admitted at once: "
        f"{over['accepted']:,} answered (p50 {over['p50_ms'] or 0:,.0f} ms, p99 {over['p99_ms'] or 0:,.0f} ms), "
        f"{over['refused']:,} refused with 429; memory {over['memory_before_mib']:,} MiB before, at most "
        f"{over['memory_first_half_mib']:,} and {over['memory_second_half_mib']:,} in its first and second half.",
        *(f"Not answered, {line}" for line in missed),
    ]
    grown = over["memory_second_half_mib"] <= SERVICE_GROWTH * over["memory_first_half_mib"]
    targets = {
        "records are those of `vcfbert impute`, byte for byte": all(report["identical"].values()),
        f"at least {SERVICE_FRACTION:.0%} of the throughput in process": beside["ratio"] >= SERVICE_FRACTION,
        "overload: nothing but 200 and 429": bool(over["accepted"]) and not over["others"] and over["alive"],
        f"overload: memory of the second half at most {SERVICE_GROWTH - 1:.0%} above the first's": grown,
    }
    return section("\n\n".join([table, *notes]), report["machine"], targets)


def without_headings(markdown: str) -> str:
    """The text without headings, because the page has its own."""
    kept = "\n".join(line for line in markdown.splitlines() if not line.startswith("#"))
    return re.sub(r"\n{3,}", "\n\n", kept).strip()


BENCHMARKS = {
    "variants": variants_table,
    "refresh": refresh_table,
    "io": io_table,
    "imputation": imputation_table,
    "million": million_table,
    "ablation": ablation_table,
    "service": service_table,
}


def render(path: Path, table: Callable[[Report], str]) -> str:
    try:
        return table(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{path}: not what its benchmark writes ({error!r}); run the benchmark again") from error


def tables_of(reports: Path) -> dict[str, str | None]:
    """The Markdown for each marker; None without a report."""
    compare = reports / "compare.md"
    tables = {"compare": without_headings(compare.read_text(encoding="utf-8")) if compare.is_file() else None}
    for name, table in BENCHMARKS.items():
        paths = sorted(reports.glob(f"bench_{name}*.json"))
        tables[name] = "\n\n".join(render(path, table) for path in paths) or None
    return tables


def table_rows(markdown: str) -> list[dict[str, str]]:
    """The rows of every Markdown table as column -> cell, table after table."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif not cells[0].startswith("---"):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def summary_table(compare: str) -> str:
    """The README's table: accuracy of phased targets and imputation time, from the tables of the comparison."""
    rows = [row for row in table_rows(compare) if "method" in row and " / " not in row["method"]]
    accuracy = [row for row in rows if "IQS" in row]
    seconds = {row["method"]: row["imputation, s"] for row in rows if "imputation, s" in row}
    if not accuracy:
        raise SystemExit("compare.md: no table with the columns method and IQS; run the comparison again")
    columns = [name for name in accuracy[0] if name.startswith("r² ") or name == "IQS"]
    cells = ([row["method"], *(row[name] for name in columns), seconds.get(row["method"], "")] for row in accuracy)
    return markdown_table(("method", *columns, "imputation, s"), cells)


def update(root: Path) -> None:
    """Fill every page under ``root``; if a page or a report is faulty, change none."""
    tables = tables_of(root / REPORTS)
    places = [(root / RESULTS / f"{page}.md", name, tables[name]) for name, page in PAGES.items()]
    compare = tables["compare"]
    places += [(root / name, "summary", None if compare is None else summary_table(compare)) for name in READMES]
    filled: dict[Path, str] = {}
    for path, name, table in places:
        if table is not None:
            text = filled[path] if path in filled else path.read_text(encoding="utf-8")  # a page may have two tables
            filled[path] = fill(text, name, table, str(path))
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
