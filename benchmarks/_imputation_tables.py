"""Tables of ``bench_imputation.py`` and ``bench_million.py``, and the limits of time and memory they are judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from _tables import Report, markdown_table, section

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
