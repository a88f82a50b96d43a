"""The tables of results come from reports: every number here is invented, every expected line written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks._imputation_tables import growth_targets, imputation_table, limits_of_growth, million_table
from benchmarks._tables import fill, machine_line
from benchmarks.update_results import (
    BENCHMARKS,
    PAGES,
    READMES,
    RESULTS,
    ablation_table,
    io_table,
    refresh_table,
    service_table,
    summary_table,
    update,
    variants_table,
    without_headings,
)

ROOT = Path(__file__).resolve().parents[3]
MACHINE = {"cpu": "Abacus 9", "cores": 2, "gpu": None, "torch": "2.9.0"}


@pytest.fixture
def variants() -> dict[str, Any]:
    settings = {"dims": 64, "layers": 4, "heads": 4, "window": 1030, "batch": 4, "device": "cpu", "bf16": False}
    shared = {"k": 8, "encoded_rows": 8, "epoch_seconds": 1234.5}
    v17 = {"case": "v17 as designed", "ms_per_batch": 9000.0, "peak_mib": 4000, "refresh_seconds": 0.0}
    v18 = {"case": "v18", "ms_per_batch": 1500.0, "peak_mib": 1200, "refresh_seconds": 0.0021}
    rows = [
        {**v17, **shared, "times_faster": 1.0, "memory_saved": 0.0, "rise_saved": 0.0},
        {**v18, **shared, "times_faster": 6.0, "memory_saved": 0.7, "rise_saved": 0.91},
    ]
    reached = {"k=8: 5.0 times faster": True, "k=8: 75% less memory": False}
    return {"machine": MACHINE, "settings": {**settings, "threads": None}, "rows": rows, "reached": reached}


@pytest.fixture
def refresh() -> dict[str, Any]:
    search = {
        "rows": 600,
        "sites": 1030,
        "dims": 64,
        "backend": "FaissKeyIndex",
        "same_distances": True,
        "flattened_refresh_seconds": 0.5,
        "collapsed_refresh_seconds_whole_panel": 0.004,
        "flattened_search_seconds": 0.128,
        "collapsed_search_seconds": 0.002,
        "search_times_faster": 64.0,
        "flattened_key_bytes": 3 * 2**26,
        "collapsed_key_bytes": 3 * 2**20,
        "times_less_memory": 64.0,
    }
    epoch = {
        "panel_sites": 24990,
        "memory_rows": 600,
        "refresh_seconds": 0.005,
        "ms_per_batch": 250.0,
        "batches_per_epoch": 80,
        "epoch_seconds": 20.0,
        "refresh_share_of_epoch": 0.00025,
        "goal_reached": True,
    }
    return {"machine": MACHINE, "search": search, "epoch": epoch}


@pytest.fixture
def io() -> dict[str, Any]:
    def figure(seconds: float, speed: int) -> dict[str, Any]:
        return {"seconds": seconds, "cells": 7_500_000, "cells_per_second": speed}

    names = ("vcfbert.vcf.gz", "vcfbert.bcf", "vcfbert.vcf", "pysam_per_sample.vcf.gz")
    write = {name: figure(5.0, 1_500_000) for name in names}
    read = {"vcfbert": figure(0.5, 15_000_000), "pysam_per_sample": figure(3.0, 2_500_000), "times_faster": 6.0}
    return {"machine": MACHINE, "read": read, "write": {**write, "times_faster": 7.5}}


def ran(tool: str, kind: str, seconds: float, times: float | None, targets: int = 50) -> dict[str, Any]:
    return {
        "tool": tool,
        "input": kind,
        "note": None,
        "runs": 3,
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "panel_seconds": 7.25 if tool == "minimac4" else None,
        "ms_per_target": 1e3 * seconds / targets,
        "peak_mib": 1234,
        "r2": {"0-0.5%": None, "all": 0.91},
        "times_beagle": times,
        "cpu_times_beagle": times and times / 2,
        "times_minimac4": None,
        "cpu_times_minimac4": 0.5 if times else None,
    }


def not_run(tool: str, kind: str, note: str) -> dict[str, Any]:
    return {"tool": tool, "input": kind, "note": note, "runs": 0}


@pytest.fixture
def imputation() -> dict[str, Any]:
    rows = [
        ran("vcfbert", "phased", 4.0, 0.8),
        ran("beagle", "phased", 5.0, 1.0),
        ran("minimac4", "phased", 2.0, 0.4),
        ran("vcfbert", "unphased", 30.0, 3.0),
        ran("beagle", "unphased", 10.0, 1.0),
        not_run("minimac4", "unphased", "needs phased targets"),
    ]
    case = {
        "data": "demo",
        "variant": "v19",
        "haplotypes": 1200,
        "targets": 50,
        "sites": 24990,
        "typed_sites": 495,
        "fit": {"seconds": 61.5, "peak_mib": 900, "note": None},
        "rows": rows,
    }
    settings = {"threads": 2, "runs": 3, "limit": 600.0, "device": "cpu", "set": []}
    return {"machine": MACHINE, "settings": settings, "growth": False, "cases": [case]}


@pytest.fixture
def ablation() -> dict[str, Any]:
    ran = {"k": 32, "phasings": None, "cpu_seconds": 1.25, "r2": {"0-0.5%": 0.12345, "all": 0.9}, "note": None}
    rows = [
        {"name": "vote", "label": "vote", "targets": "phased", **ran},
        {"name": "v17", "label": "V17", "targets": "phased", "r2": {}, "note": "no bundle models/v17"},
        {"name": "tried", "label": "tried", "targets": "phased", "r2": {"all": 0.91}, "note": "from the log"},
        {"name": "averaged", "label": "+ average", "targets": "unphased", **ran, "phasings": 16},
    ]
    return {"machine": MACHINE, "threads": 2, "data": "demo", "panel": "d1", "rows": rows}


def test_ablation_marks_what_was_not_run_here(ablation: dict[str, Any]) -> None:
    assert ablation_table(ablation).splitlines() == [
        "| method | targets | r² 0-0.5% | r² all | K | CPU, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| vote | phased | 0.1235 | 0.9000 | 32 | 1.2 |",
        "| tried* | phased |  | 0.9100 |  |  |",
        "| + average | unphased | 0.1235 | 0.9000 | 32 | 1.2 |",
        "",
        "- * tried: from the log",
        "- not run: V17: no bundle models/v17",
        "",
        "Machine: Abacus 9, 2 cores, torch 2.9.0.",
    ]
    whole = {**ablation, "rows": [row for row in ablation["rows"] if row["note"] is None]}
    assert "\n- " not in ablation_table(whole)


def test_variants_show_cost_ratios_machine_and_targets(variants: dict[str, Any]) -> None:
    lines = variants_table(variants).splitlines()
    assert lines[0] == "64 dims, 4 layers, 4 heads, 1,030 sites, 4 samples per batch, cpu:"
    assert "| V17 as designed | 8 | 9,000.0 | 4,000 |  | 1,234.5 | 1.00x | 0% | 0% |" in lines
    assert "| V18 | 8 | 1,500.0 | 1,200 | 0.0021 | 1,234.5 | 6.00x | 70% | 91% |" in lines
    assert lines[-4:] == [
        "Machine: Abacus 9, 2 cores, torch 2.9.0.",
        "",
        "- reached: V18, k=8: 5.0 times faster",
        "- **missed**: V18, k=8: 75% less memory",
    ]


def test_the_absolute_targets_are_judged_at_the_original_size_alone(variants: dict[str, Any]) -> None:
    assert "original size" not in variants_table(variants)
    variants["settings"] |= {"dims": 192, "layers": 10, "heads": 6}
    variants["rows"][1] |= {"ms_per_batch": 7999.0, "peak_mib": 3815}  # 3,815 MiB are just over 4 GB
    text = variants_table(variants)
    assert "- reached: V18, k=8, original size on 2 cores: under 8 s per batch" in text
    assert "- **missed**: V18, k=8, original size on 2 cores: under 4 GB" in text
    variants["machine"] = {**MACHINE, "cores": 16}
    assert "original size" not in variants_table(variants)
    variants["settings"]["threads"] = 2
    assert "original size" in variants_table(variants)
    variants["settings"]["device"] = "cuda"
    assert "original size" not in variants_table(variants)


def test_refresh_shows_both_indexes_their_ratio_and_the_share_of_an_epoch(refresh: dict[str, Any]) -> None:
    text = refresh_table(refresh)
    assert "| flattened, this window refreshed | 192.00 | 128.00 | 500.00 |" in text
    assert "| collapsed, whole panel refreshed | 3.00 | 2.00 | 4.00 |" in text
    assert "| ratio | 64.0x | 64.0x |  |" in text
    assert "takes 5.00 ms, an epoch 20.0 s (80 batches of 250.0 ms): 0.0250% of the epoch." in text
    assert text.endswith(
        "- reached: both find neighbours at the same distances\n- reached: a refresh takes under 2% of an epoch"
    )
    refresh["epoch"]["goal_reached"] = False
    assert refresh_table(refresh).endswith("- **missed**: a refresh takes under 2% of an epoch")


def test_io_shows_speed_beside_pysam_and_what_was_not_measured(io: dict[str, Any]) -> None:
    text = io_table(io)
    assert "| read VCF.gz | 7,500,000 | 0.50 | 15.00 | 6.0x |" in text
    assert "| write VCF.gz | 7,500,000 | 5.00 | 1.50 | 7.5x |" in text
    assert "- reached: the demo panel read in under 1 s" in text
    assert "- not measured: 2,504 samples x 100,000 sites read in under 60 s (`--large`)" in text
    io["read"]["vcfbert"]["seconds"] = 1.0
    io["read_large"] = {"seconds": 20.0, "cells": 250_400_000, "cells_per_second": 12_520_000}
    text = io_table(io)
    assert "- **missed**: the demo panel read in under 1 s" in text
    assert "| read VCF.gz, 2,504 samples x 100,000 sites | 250,400,000 | 20.00 | 12.52 |  |" in text
    assert text.endswith("- reached: 2,504 samples x 100,000 sites read in under 60 s")


def test_imputation_shows_every_tool_and_judges_speed_beside_beagle(imputation: dict[str, Any]) -> None:
    text = imputation_table(imputation)
    assert "| vcfbert V19 | phased | 1,200 | 50 | 4.00 | 0.80 |  | 8.00 | 0.40 | 0.50 | 1,234 |  | 0.9100 |" in text
    assert "| Beagle | unphased | 1,200 | 50 | 10.00 | 1.00 |  | 20.00 | 0.50 | 0.50 | 1,234 |  | 0.9100 |" in text
    assert "2 threads, cpu; median of 3 runs in turn. " in text
    assert "Once for demo (24,990 sites): fit 61.5 s, Minimac4's panel 7.2 s." in text
    assert "- not run: Minimac4, unphased targets, demo: needs phased targets" in text
    assert text.endswith(
        "- reached: demo, phased targets: at most 0.4 of Beagle's CPU time\n"
        "- reached: demo, phased targets: at most 0.55 of Minimac4's CPU time\n"
        "- **missed**: demo, unphased targets: at most 0.9 of Beagle's CPU time\n"
        "- **missed**: demo, phased targets: at most 200 MiB\n"
        "- **missed**: demo, unphased targets: at most 300 MiB"
    )
    imputation["cases"][0]["rows"][3] = not_run("vcfbert", "unphased", "error [unphased]")
    assert "- not measured: demo, unphased targets: at most 300 MiB" in imputation_table(imputation)


def test_million_judges_time_beside_the_smaller_panel_and_memory() -> None:
    rows = [
        {
            "haplotypes": size, "input": kind, "seconds": seconds, "cpu_seconds": 2.0, "peak_mib": peak,
            "panel_mib": 8.5, "r2": {"all": 0.9},
        }
        for size, seconds, peak in ((50_000, 1.0, 90), (1_000_000, 2.5, 1_600))
        for kind in ("phased", "unphased")
    ]  # fmt: skip
    text = million_table({"machine": MACHINE, "sites": 4_966, "targets": 100, "rows": rows})
    assert "| 1,000,000 | unphased | 2.50 | 2.00 | 1,600 | 8.5 | 0.9000 |" in text
    assert "- reached: phased targets, 1,000,000 haplotypes: under 3 times the time of 50,000 (2.50)" in text
    assert "- **missed**: phased targets, 1,000,000 haplotypes: under 1,430 MiB" in text


def test_imputation_by_v18_is_judged_by_its_own_target_alone(imputation: dict[str, Any]) -> None:
    case = imputation["cases"][0]
    phased = next(row for row in case["rows"] if (row["tool"], row["input"]) == ("vcfbert", "phased"))
    for seconds, word in ((7.9, "reached"), (8.1, "**missed**")):
        phased["seconds"] = seconds
        text = imputation_table({**imputation, "cases": [{**case, "variant": "v18"}]})
        assert f"- {word}: demo, phased targets: V18 takes at most 8 s" in text
        assert "CPU time" not in text


def test_one_target_has_limits_of_its_own(imputation: dict[str, Any]) -> None:
    one = {**imputation["cases"][0], "data": "demo, 1 target", "targets": 1}
    text = imputation_table({**imputation, "cases": [one]})
    assert "- **missed**: demo, 1 target, phased targets: at most 0.25 of Beagle's time" in text
    assert "- **missed**: demo, 1 target, phased targets: at most 143 MiB" in text
    assert "0.4 of" not in text


def test_growth_judges_each_size_by_its_limits(imputation: dict[str, Any]) -> None:
    """The fixture's V19: .5 of Minimac4's CPU time phased, 1.5 of Beagle's unphased; r2 of .91 as the others."""
    fit = {"seconds": 59.0, "peak_mib": 955, "note": None}
    large = {**imputation["cases"][0], "data": "large", "haplotypes": 50_000, "targets": 100, "fit": fit}
    small = {**large, "data": "small", "haplotypes": 2_000}
    few = {**small, "data": "few", "targets": 10}
    assert limits_of_growth([few, small, large]) == {
        "small, phased targets: at most 0.5 of Beagle's CPU time": True,
        "large, phased targets: at most 1.5 of Minimac4's time": None,
        "large, unphased targets: at most 0.9 of Beagle's CPU time": False,
        "50,000 haplotypes: fit in at most 60 s": True,
        "50,000 haplotypes: fit in at most 954 MiB": False,
        "large, phased targets: r² ahead in every bin": True,
        "large, unphased targets: r² ahead in every bin": True,
    }
    large["rows"][2]["r2"]["all"] = 0.9101
    assert limits_of_growth([large])["large, phased targets: r² ahead in every bin"] is False


def test_growth_compares_panels_with_the_same_number_of_targets(imputation: dict[str, Any]) -> None:
    """600 to 6,000 haplotypes, 100 targets: 2 s and 8 s. Those with 10 and 1,000 targets do not count."""
    sizes = [(600, 100, 2.0), (2000, 10, 1.0), (2000, 100, 3.0), (2000, 1000, 20.0), (6000, 100, 8.0)]
    cases = [
        {**imputation["cases"][0], "haplotypes": n, "targets": t, "rows": [ran("vcfbert", "phased", s, None, t)]}
        for n, t, s in sizes
    ]
    phased = "phased targets: time per target grows less than the panel"
    unphased = f"un{phased}"
    assert growth_targets(cases) == {f"{phased}, 600 to 6,000 haplotypes: 4.0x": True, unphased: None}
    cases[-1]["rows"] = [ran("vcfbert", "phased", 20.5, None, 100)]
    assert growth_targets(cases)[f"{phased}, 600 to 6,000 haplotypes: 10.2x"] is False
    assert growth_targets(cases[1:3]) == {phased: None, unphased: None}  # one panel, two numbers of targets
    text = imputation_table({**imputation, "growth": True, "cases": cases})
    assert "10.2x" in text
    assert "Beagle's time" not in text


@pytest.fixture
def service() -> dict[str, Any]:
    rows = [(1, 100, 250.0, 300.0, 4.0), (32, 100, 5000.0, 9000.0, 3.5)]
    names = ("clients", "requests", "p50_ms", "p99_ms", "samples_per_second")
    beside = {"samples": 203, "service_samples_per_second": 90.0, "in_process_samples_per_second": 100.0, "ratio": 0.9}
    over = {
        "clients": 100,
        "seconds": 60.0,
        "admitted_at_once": 32,
        "accepted": 300,
        "refused": 4000,
        "others": {},
        "p50_ms": 9000.0,
        "p99_ms": 11000.0,
        "memory_before_mib": 2000,
        "memory_first_half_mib": 2100,
        "memory_second_half_mib": 2300,
        "alive": True,
    }
    return {
        "machine": MACHINE,
        "settings": {"threads": 2, "batch_size": 64, "bundle": "v19"},
        "start_seconds": 3.04,
        "identical": {"one sample": True, "all targets": True},
        "latency": [{**dict(zip(names, row, strict=True)), "others": {}} for row in rows],
        "throughput": beside,
        "overload": over,
    }


def test_service_shows_latency_and_judges_speed_overload_and_memory(service: dict[str, Any]) -> None:
    text = service_table(service)
    assert "| 32 | 100 | 5,000 | 9,000 | 3.5 |" in text
    assert "90.0 samples/s, 90% of the 100.0 in process" in text
    assert "300 answered (p50 9,000 ms, p99 11,000 ms), 4,000 refused with 429" in text
    assert text.count("- reached") == 4
    service["overload"] |= {"others": {"500": 1}, "memory_second_half_mib": 2311}
    service["identical"]["one sample"] = False
    service["throughput"]["ratio"] = 0.79
    service["latency"][0]["others"] = {"503": 2}
    text = service_table(service)
    assert text.count("- **missed**") == 4
    assert "Not answered, 1 clients: {'503': 2}" in text


@pytest.mark.parametrize("table", ["variants", "refresh", "io", "imputation", "ablation", "service"])
def test_every_row_has_the_columns_of_its_header(table: str, request: pytest.FixtureRequest) -> None:
    rows = [line for line in BENCHMARKS[table](request.getfixturevalue(table)).splitlines() if line.startswith("|")]
    assert len(rows) >= 4
    assert len({row.count("|") for row in rows}) == 1


def test_machine_names_a_gpu_and_a_single_core() -> None:
    machine = {"cpu": "Abacus 9", "cores": 1, "gpu": "Loom 3", "torch": "2.9.0"}
    assert machine_line(machine) == "Machine: Abacus 9, 1 core, Loom 3, torch 2.9.0."


def test_headings_of_a_report_are_left_out() -> None:
    report = "# Comparison\n\n## Accuracy\n\n| a |\n| --- |\n\n## Cost\n\n| b |\n| --- |\n\nA note.\n"
    assert without_headings(report) == "| a |\n| --- |\n\n| b |\n| --- |\n\nA note."


def test_fill_replaces_what_was_there_and_nothing_else() -> None:
    text = "a\n<!-- table: io -->\nold\n<!-- end -->\nb\n<!-- table: refresh -->\nkept\n<!-- end -->\n"
    expected = "a\n<!-- table: io -->\n\n| \\1 |\n\n<!-- end -->\nb\n<!-- table: refresh -->\nkept\n<!-- end -->\n"
    assert fill(text, "io", "| \\1 |\n", "README.md") == expected
    assert fill(expected, "io", "| \\1 |", "README.md") == expected


@pytest.mark.parametrize("text", ["", "<!-- table: io -->\n<!-- end -->\n" * 2], ids=["none", "two"])
def test_fill_refuses_a_readme_without_exactly_one_place(text: str) -> None:
    with pytest.raises(SystemExit, match=r"^README\.md: . places for the table io"):
        fill(text, "io", "| a |", "README.md")


COMPARE = """# Comparison

| method | r² 0-0.5% | r² all | NRC | IQS |
| --- | ---: | ---: | ---: | ---: |
| V17 | 0.1 | 0.8 | 0.7 | 0.5 |
| Beagle 5.4 | 0.2 | 0.9 | 0.8 | 0.6 |
| V18 / V17 | 1.5 | 1.1 | 1.0 | 1.1 |

| method | ms/batch | imputation, s |
| --- | ---: | ---: |
| V17 | 87.4 | 23.9 |
"""


def make_root(root: Path) -> Path:
    """A checkout whose pages hold old tables."""
    (root / RESULTS).mkdir(parents=True)
    for name, page in PAGES.items():
        place = f"<!-- table: {name} -->\nold {name}\n<!-- end -->\n"
        (root / RESULTS / f"{page}.md").write_text(f"# r²\n{place}", encoding="utf-8")
    for readme in READMES:
        (root / readme).write_text("# 基因型填充\n<!-- table: summary -->\nold\n<!-- end -->\n", encoding="utf-8")
    (root / "reports").mkdir()
    return root


def test_summary_has_accuracy_and_seconds_without_ratios() -> None:
    assert summary_table(COMPARE).splitlines() == [
        "| method | r² 0-0.5% | r² all | IQS | imputation, s |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| V17 | 0.1 | 0.8 | 0.5 | 23.9 |",
        "| Beagle 5.4 | 0.2 | 0.9 | 0.6 |  |",
    ]


def test_update_fills_pages_and_both_readmes_and_leaves_tables_without_a_report(
    tmp_path: Path, io: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_root(tmp_path)
    (root / "reports" / "compare.md").write_text(COMPARE, encoding="utf-8")
    (root / "reports" / "bench_io.json").write_text(json.dumps(io))
    second = {**io, "machine": {**MACHINE, "cpu": "Second"}}
    (root / "reports" / "bench_io_second.json").write_text(json.dumps(second))
    update(root)
    pages = {name: (root / RESULTS / f"{page}.md").read_text(encoding="utf-8") for name, page in PAGES.items()}
    assert "| V18 / V17 |" in pages["compare"]
    assert "old variants" in pages["variants"]
    assert "old io" not in pages["io"]
    assert 0 < pages["io"].index("Abacus 9") < pages["io"].index("Second")
    readmes = [(root / name).read_text(encoding="utf-8") for name in READMES]
    assert readmes[0] == readmes[1]
    assert "| V17 | 0.1 | 0.8 | 0.5 | 23.9 |" in readmes[0]
    said = capsys.readouterr().out
    assert "no report for the table variants" in said
    assert "table io" not in said
    update(root)
    assert (root / READMES[0]).read_text(encoding="utf-8") == readmes[0]


def test_update_fills_two_tables_of_one_page(tmp_path: Path, imputation: dict[str, Any]) -> None:
    root = make_root(tmp_path)
    page = root / RESULTS / "processes.md"
    page.write_text(
        "".join(f"<!-- table: {name} -->\n\nold {name}\n\n<!-- end -->\n" for name in ("imputation", "million"))
    )
    row = {"haplotypes": 5, "input": "phased", "seconds": 1.0, "cpu_seconds": 2.0, "peak_mib": 3, "panel_mib": 1}
    million = {"machine": MACHINE, "sites": 7, "targets": 1, "rows": [{**row, "r2": {"all": 0.9}}]}
    for name, report in (("imputation", imputation), ("million", million)):
        (root / "reports" / f"bench_{name}.json").write_text(json.dumps(report))
    update(root)
    assert "old" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"read": 1, "write": 2}'])
def test_update_with_malformed_report_names_it_and_changes_nothing(tmp_path: Path, content: str) -> None:
    root = make_root(tmp_path)
    before = (root / READMES[0]).read_bytes()
    (root / "reports" / "compare.md").write_text(COMPARE)
    (root / "reports" / "bench_io.json").write_text(content)
    with pytest.raises(SystemExit, match=r"bench_io\.json: not what its benchmark writes"):
        update(root)
    assert (root / READMES[0]).read_bytes() == before


def test_update_with_missing_marker_changes_nothing(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "reports" / "compare.md").write_text(COMPARE)
    (root / READMES[1]).write_text("no markers\n")
    with pytest.raises(SystemExit):
        update(root)
    assert "old compare" in (root / RESULTS / "accuracy.md").read_text(encoding="utf-8")


def commands_of(readme: str) -> list[str]:
    """The lines of shell blocks without their comments, which are translated."""
    blocks = (ROOT / readme).read_text(encoding="utf-8").split("```sh\n")[1:]
    lines = [line.split("#")[0].rstrip() for block in blocks for line in block.split("```")[0].splitlines()]
    return [line for line in lines if line]


def test_repository_pages_have_one_marker_for_each_table() -> None:
    for name, page in PAGES.items():
        assert (ROOT / RESULTS / f"{page}.md").read_text(encoding="utf-8").count(f"<!-- table: {name} -->") == 1


def test_readmes_have_summary_same_commands_and_at_most_150_lines() -> None:
    for readme in READMES:
        text = (ROOT / readme).read_text(encoding="utf-8")
        assert text.count("<!-- table: summary -->") == 1
        assert len(text.splitlines()) <= 150
    english, chinese = map(commands_of, READMES)
    assert chinese == english
