"""Write the figures of the demo and the benchmarks into the tables of docs/results and of the README.

  python -m benchmarks.update_results           # after `make demo` and the benchmarks named on the pages

Each table lies between two markers. A table without a report stays as it is. ``compare`` comes from the Markdown of the
comparison, the others from the benchmarks' JSON. A benchmark may have several reports, each a table of its own, such as
``bench_variants.json`` and ``bench_variants_original.json``. Both languages of the README have the table ``summary``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
# V19's limits: time as multiples of another tool's on the same targets, and memory. Of all targets of the demo, of one,
# and of 100 targets by the panel's haplotypes.
CPU, WALL = "cpu_times", "times"
TIMES = {CPU: "CPU time", WALL: "time"}
LIMITS = (("phased", CPU, "beagle", 0.4), ("phased", CPU, "minimac4", 0.55), ("unphased", CPU, "beagle", 0.9))
PEAK_MIB = {"phased": 200, "unphased": 300}
ONE_LIMITS, ONE_PEAK_MIB = (("phased", WALL, "beagle", 0.25),), {"phased": 143}  # 150 MB
GROWTH_TARGETS = 100
GROWTH_LIMITS = {
    2_000: (("phased", CPU, "beagle", 0.5),),
    10_000: (("phased", CPU, "beagle", 0.5),),
    50_000: (("phased", WALL, "minimac4", 1.5), ("unphased", CPU, "beagle", 0.9)),
}
FIT_SECONDS, FIT_MIB = {10_000: 30.0, 50_000: 60.0}, 954  # 1 GB
V18_SECONDS = 8.0  # of the demo's 203 phased targets, on two cores
MILLION_TIMES, MILLION_MIB = 3.0, 1_430  # of the time with the smaller panel; 1.5 GB
SERVICE_FRACTION, SERVICE_GROWTH = 0.8, 1.1  # of the throughput within a process; of memory under overload

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
    """The table, its machine, and one line per target; None marks a target that the run did not measure."""
    words = {True: "reached", False: "**missed**", None: "not measured"}
    lines = [f"- {words[reached]}: {target}" for target, reached in targets.items()]
    return "\n\n".join([table, machine_line(machine), "\n".join(lines)]).strip()


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


def imputation_table(report: Report) -> str:
    cases = report["cases"]
    bins = [name for case in cases for row in case["rows"] for name in row.get("r2", ())]
    bins = list(dict.fromkeys(bins))
    header = ("tool", "input", "haplotypes", "targets", "s", "x Beagle", "x Minimac4")
    header += ("CPU, s", "CPU x Beagle", "CPU x Minimac4", "peak MiB")
    header += tuple(f"r² {name}" for name in bins)

    def cells(case: Report, row: Report) -> tuple[str, ...]:
        figures = [f"{row['seconds']:,.2f}", *multiples(row, "times"), f"{row['cpu_seconds']:,.2f}"]
        figures += [*multiples(row, "cpu_times"), f"{row['peak_mib']:,}"]
        r2 = ("" if row["r2"][name] is None else f"{row['r2'][name]:.4f}" for name in bins)
        sizes = (f"{case['haplotypes']:,}", f"{case['targets']:,}")
        return tool_name(case, row), row["input"], *sizes, *figures, *r2

    measured = [(case, row) for case in cases for row in case["rows"] if row["runs"]]
    table = markdown_table(header, (cells(case, row) for case, row in measured))
    settings = report["settings"]
    note = (
        f"Whole processes, reading and writing included, {settings['threads']} threads, {settings['device']}; "
        f"median of {settings['runs']} run{'' if settings['runs'] == 1 else 's'} in turn. "
        + " ".join(preparation(case) for case in cases)
    )
    missing = [
        f"- not run: {tool_name(case, row)}, {row['input']} targets, {case['data']}: {row['note']}"
        for case in cases
        for row in case["rows"]
        if row["note"]
    ]
    parts = [table, note.strip(), "\n".join(missing)]
    return section("\n\n".join(part for part in parts if part), report["machine"], imputation_targets(report))


def million_table(report: Report) -> str:
    """Panels of up to a million haplotypes, and whether the largest keeps to its limits of time and memory."""
    rows = report["rows"]
    bins = list(rows[0]["r2"])
    header = ("haplotypes", "input", "s", "CPU, s", "peak MiB", "panel on disk, MiB", *(f"r² {name}" for name in bins))
    table = markdown_table(
        header,
        (
            (
                f"{row['haplotypes']:,}",
                row["input"],
                *(f"{row[name]:,.2f}" for name in ("seconds", "cpu_seconds")),
                *(f"{row[name]:,}" for name in ("peak_mib", "panel_mib")),
                *(f"{row['r2'][name]:.4f}" for name in bins),
            )
            for row in rows
        ),
    )
    phased = sorted((row for row in rows if row["input"] == "phased"), key=lambda row: row["haplotypes"])
    small, large = phased[0], phased[-1]
    times, what = large["seconds"] / small["seconds"], f"phased targets, {large['haplotypes']:,} haplotypes"
    limit = f"under {MILLION_TIMES:g} times the time of {small['haplotypes']:,}"
    targets = {
        f"{what}: {limit} ({times:.2f})": times < MILLION_TIMES,
        f"{what}: under {MILLION_MIB:,} MiB": large["peak_mib"] < MILLION_MIB,
    }
    note = f"{report['sites']:,} sites, {report['targets']} targets; whole processes, 2 threads."
    return section(f"{table}\n\n{note}", report["machine"], targets)


def multiples(row: Report, name: str) -> list[str]:
    """Time as multiples of Beagle's and of Minimac4's, '' where one of them did not run."""
    return ["" if (times := row[f"{name}_{tool}"]) is None else f"{times:.2f}" for tool in ("beagle", "minimac4")]


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def tool_name(case: Report, row: Report) -> str:
    own = f"vcfbert {(case['variant'] or '').upper()}".strip()
    return own if row["tool"] == "vcfbert" else str(row["tool"]).capitalize()


def preparation(case: Report) -> str:
    """A sentence on the time that each tool needed once for the panel."""
    fit = case["fit"]
    parts = [f"fit {fit['seconds']:,.1f} s"] if fit and not fit["note"] else []
    parts += [f"Minimac4's panel {row['panel_seconds']:,.1f} s" for row in case["rows"] if row.get("panel_seconds")]
    return f"Once for {case['data']} ({case['sites']:,} sites): {', '.join(parts)}." if parts else ""


def imputation_targets(report: Report) -> dict[str, bool | None]:
    """Whether V19 and V18 keep to their limits, and how V19's time grows with the panel."""
    if report["growth"]:
        return limits_of_growth(report["cases"]) | growth_targets(report["cases"])
    targets: dict[str, bool | None] = {}
    for case in report["cases"]:
        if case["variant"] != "v18":
            one = case["targets"] == 1
            targets |= time_limits(case, ONE_LIMITS if one else LIMITS)
            targets |= memory_limits(case, ONE_PEAK_MIB if one else PEAK_MIB)
        elif case["targets"] > 1:
            seconds = own_rows(case).get("phased", {}).get("seconds")
            what = f"{case['data']}, phased targets: V18 takes at most {V18_SECONDS:g} s"
            targets[what] = None if seconds is None else seconds <= V18_SECONDS
    return targets


def own_rows(case: Report) -> dict[str, Report]:
    """vcfbert's row of phased and of unphased targets, as far as they were imputed."""
    return {row["input"]: row for row in case["rows"] if row["tool"] == "vcfbert" and row["runs"]}


def time_limits(case: Report, limits: Iterable[tuple[str, str, str, float]]) -> dict[str, bool | None]:
    targets: dict[str, bool | None] = {}
    for phase, of, tool, limit in limits:
        times = own_rows(case).get(phase, {}).get(f"{of}_{tool}")
        what = f"{case['data']}, {phase} targets: at most {limit:g} of {tool.capitalize()}'s {TIMES[of]}"
        targets[what] = None if times is None else times <= limit
    return targets


def memory_limits(case: Report, limits: Mapping[str, int]) -> dict[str, bool | None]:
    targets: dict[str, bool | None] = {}
    for phase, limit in limits.items():
        peak = own_rows(case).get(phase, {}).get("peak_mib")
        what = f"{case['data']}, {phase} targets: at most {limit} MiB"
        targets[what] = None if peak is None else peak <= limit
    return targets


def limits_of_growth(cases: Sequence[Report]) -> dict[str, bool | None]:
    """Limits that hold for a panel of some size: time, the fit, and r2 of the largest in every bin."""
    targets: dict[str, bool | None] = {}
    for case in cases:
        size, fit = case["haplotypes"], case["fit"]
        if case["targets"] != GROWTH_TARGETS:
            continue
        targets |= time_limits(case, GROWTH_LIMITS.get(size, ()))
        if size in FIT_SECONDS and fit and not fit["note"]:
            limit = FIT_SECONDS[size]
            targets[f"{size:,} haplotypes: fit in at most {limit:g} s"] = fit["seconds"] <= limit
            targets[f"{size:,} haplotypes: fit in at most {FIT_MIB} MiB"] = fit["peak_mib"] <= FIT_MIB
        if size == max(GROWTH_LIMITS):
            for phase in own_rows(case):
                targets[f"{case['data']}, {phase} targets: r² ahead in every bin"] = ahead_in_every_bin(case, phase)
    return targets


def ahead_in_every_bin(case: Report, phase: str) -> bool | None:
    """Whether vcfbert's r2 is at least that of every other tool; None if no other tool ran."""
    own = own_rows(case)[phase]["r2"]
    others = [row["r2"] for row in case["rows"] if row["tool"] != "vcfbert" and row["input"] == phase and row["runs"]]
    if not others:
        return None
    return all(own[name] >= other[name] for other in others for name in own if own[name] is not None)


def growth_targets(cases: Sequence[Report]) -> dict[str, bool | None]:
    """Compares the smallest with the largest panel that ran with the same number of targets."""
    targets: dict[str, bool | None] = {}
    for kind in ("phased", "unphased"):
        ours = [
            (case["targets"], case["haplotypes"], row["ms_per_target"])
            for case in cases
            for row in case["rows"]
            if row["tool"] == "vcfbert" and row["input"] == kind and row["runs"]
        ]
        counts = [n_targets for n_targets, _, _ in ours]
        common = max(counts, key=counts.count, default=0)
        runs = sorted(run[1:] for run in ours if run[0] == common)
        what = f"{kind} targets: time per target grows less than the panel"
        if len(runs) < 2:
            targets[what] = None
            continue
        (small, fast), (large, slow) = runs[0], runs[-1]
        targets[f"{what}, {small:,} to {large:,} haplotypes: {slow / fast:.1f}x"] = slow / fast < large / small
    return targets


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


def fill(text: str, name: str, table: str, where: str) -> str:
    """The text of the page ``where`` with the table between its markers; SystemExit unless there is one such place."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"{where}: {count} places for the table {name}, and there should be one")
    return filled


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
