from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.evaluated import r2_sums_of
from vcfbert.errors import InputError
from vcfbert.reports.comparison import compare


def array(*r2: float) -> dict[str, Any]:
    bins = ("0-0.5%", "0.5-1%", "1-5%", "5-50%", "all")
    rows = [
        {"bin": name, "aggregate_r2": value, "nonref_concordance": 0.8, "iqs": None}
        for name, value in zip(bins, r2, strict=True)
    ]
    return {"rows": rows, "samples": 3, "absent": 0}


PEERS: dict[str, Any] = {"beagle": {"array": array(0.11, 0.33, 0.56, 0.90, 0.91), "seconds": 9.0, "version": "5.4"}}
V17: dict[str, Any] = {
    "variant": "v17",
    "array": array(0.05, 0.1, 0.3, 0.8, 0.8),
    "masked": {"train": {"f1": 0.96, "rare_f1": 0.9}, "validation": {"f1": 0.9, "rare_f1": 0.8}},
    "training": {"ms_per_batch": 500.0, "peak_memory_mb": 2000.0, "parameters": 1000, "refresh_seconds": 0.0},
    "imputation": {"seconds": 20.0},
    "peers": PEERS,
}
V18: dict[str, Any] = {
    "variant": "v18",
    "array": array(0.1, 0.2, 0.45, 0.88, 0.88),
    "masked": {"validation": {"f1": 0.945, "rare_f1": 0.88}},
    "training": {"ms_per_batch": 100.0, "peak_memory_mb": 500.0, "parameters": 1100, "refresh_seconds": 0.5},
    "imputation": {"seconds": 8.0},
    "peers": PEERS,
}

V19: dict[str, Any] = {
    "variant": "v19",
    "array": array(0.13, 0.36, 0.58, 0.91, 0.92),
    "array_unphased": array(0.12, 0.35, 0.57, 0.905, 0.91),
    "imputation": {"seconds": 4.0},
    "imputation_unphased": {"seconds": 30.0},
    "peers": {
        "beagle": {
            **PEERS["beagle"],
            "array_unphased": array(0.1, 0.3, 0.5, 0.9, 0.905),
            "imputation_unphased": {"seconds": 14.0},
        }
    },
}


def test_unphased_figures_have_their_own_table() -> None:
    comparison = compare([V19, V17, V18])
    by_method = {row["method"]: row for row in comparison.as_dict()["rows"]}
    assert list(by_method) == ["v17", "v18", "v19", "beagle"]
    assert by_method["v19"]["r2"]["1-5%"] == 0.58
    assert by_method["v19"]["unphased"] == {
        "r2": {"0-0.5%": 0.12, "0.5-1%": 0.35, "1-5%": 0.57, "5-50%": 0.905, "all": 0.91},
        "nonref_concordance": 0.8,
        "imputation_seconds": 30.0,
    }
    assert by_method["beagle"]["unphased"]["imputation_seconds"] == 14.0
    assert "unphased" not in by_method["v18"]
    text = comparison.markdown()
    block = text[text.index("## Accuracy from unphased targets") : text.index("## Cost")].splitlines()[2:]
    assert block[0].startswith("| method, unphased targets | r² 0-0.5% |")
    assert block[2:] == [
        "| V19 | 0.1200 | 0.3500 | 0.5700 | 0.9050 | 0.9100 | 0.8000 |",
        "| Beagle 5.4 | 0.1000 | 0.3000 | 0.5000 | 0.9000 | 0.9050 | 0.8000 |",
        "",  # and no ratio of V18 to V17, which have no such figures
    ]
    assert "| V19 |  |  |  |  | 4.0 | 30.0 |" in text.splitlines()


def with_estimates(report: dict[str, Any], estimated: float | None, true: float) -> dict[str, Any]:
    """``report`` with these figures in every bin but the last, over all, which has a tenth more."""
    more = [0.0, 0.0, 0.0, 0.0, 0.1]
    rows = [
        row
        | {
            "mean_site_r2": true + by,
            "mean_estimated_r2": estimated and estimated + by,
            "estimate_correlation": 0.71 + by,
        }
        for row, by in zip(report["rows"], more, strict=True)
    ]
    return report | {"rows": rows}


def test_estimated_r2_is_shown_beside_true_r2() -> None:
    beagle = PEERS["beagle"] | {"array": with_estimates(PEERS["beagle"]["array"], 0.55, 0.5)}
    v19 = V19 | {
        "array": with_estimates(V19["array"], 0.625, 0.6),
        "array_unphased": with_estimates(V19["array_unphased"], 0.3, 0.4),
        "peers": {"beagle": beagle},
    }
    v18 = V18 | {"array": with_estimates(V18["array"], None, 0.45)}  # a file without estimates
    comparison = compare([v19, v18, V17])
    lines = comparison.markdown().split("## Estimated and true r²\n\n")[1].splitlines()
    assert lines[:6] == [
        "| estimated / true r² | 0-0.5% | 0.5-1% | 1-5% | 5-50% | all | correlation |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| V19 |" + " 0.625 / 0.600 |" * 4 + " 0.725 / 0.700 | 0.810 |",
        "| Beagle 5.4 |" + " 0.550 / 0.500 |" * 4 + " 0.650 / 0.600 | 0.810 |",
        "| V19, unphased targets |" + " 0.300 / 0.400 |" * 4 + " 0.400 / 0.500 | 0.810 |",
        "",
    ]
    by_method = {row["method"]: row for row in comparison.as_dict()["rows"]}
    assert by_method["v19"]["estimated_r2"]["1-5%"] == 0.625
    assert by_method["v19"]["unphased"]["site_r2"]["all"] == 0.5
    assert by_method["beagle"]["estimate_correlation"] == pytest.approx(0.81)
    assert "site_r2" not in by_method["v18"]
    console = Console(file=StringIO(), width=160)
    console.print(comparison.table())
    assert "0.625 / 0.600" in console.file.getvalue()  # type: ignore[attr-defined]


def test_ratios_exclude_estimated_r2() -> None:
    both = [report | {"array": with_estimates(report["array"], 0.5, 0.4)} for report in (V17, V18)]
    assert compare(both).as_dict()["ratios"] == compare([V17, V18]).as_dict()["ratios"]


def test_comparison_without_estimates_omits_their_table() -> None:
    assert "Estimated and true" not in compare([V17, V18]).markdown()


def test_comparison_without_unphased_figures_omits_them() -> None:
    assert "unphased targets" not in compare([V17, V18]).markdown()


def test_rows_are_variants_then_baselines_then_reference_points() -> None:
    vote = {"array": array(0.0736, 0.1811, 0.4272, 0.8575, 0.8694)}
    comparison = compare([V18, V17], {"nearest haplotypes": vote})
    assert [(row.label, row.kind) for row in comparison.rows] == [
        ("V17", "variant"), ("V18", "variant"), ("Beagle 5.4", "peer"), ("nearest haplotypes", "reference"),
    ]  # fmt: skip
    values = comparison.as_dict()["rows"]
    assert values[1]["r2"] == {"0-0.5%": 0.1, "0.5-1%": 0.2, "1-5%": 0.45, "5-50%": 0.88, "all": 0.88}
    assert (values[1]["f1"], values[1]["rare_f1"], values[1]["ms_per_batch"]) == (0.945, 0.88, 100.0)
    assert (values[0]["train_f1"], values[2]["imputation_seconds"]) == (0.96, 9.0)
    assert "iqs" not in values[0]  # undefined in the report


def test_ratios_are_v18_over_v17_of_known_nonzero_values() -> None:
    ratios = compare([V17, V18]).as_dict()["ratios"]["v18/v17"]
    assert ratios["ms_per_batch"] == pytest.approx(0.2)
    assert ratios["peak_memory_mb"] == pytest.approx(0.25)
    assert ratios["r2"]["1-5%"] == pytest.approx(1.5)
    assert ratios["f1"] == pytest.approx(1.05)
    assert "refresh_seconds" not in ratios
    assert "train_f1" not in ratios


def test_comparison_of_one_variant_has_no_ratios() -> None:
    comparison = compare([{"variant": "v18", "array": V18["array"]}])
    assert comparison.as_dict()["ratios"] == {}
    assert "V18 / V17" not in comparison.markdown()
    assert "## Cost" not in comparison.markdown()  # nothing is known of it


def test_markdown_holds_both_tables() -> None:
    lines = compare([V17, V18]).markdown().splitlines()
    bins = "r² 0-0.5% | r² 0.5-1% | r² 1-5% | r² 5-50% | r² all"
    assert f"| method | {bins} | NRC | F1 | rare F1 | train F1 | train rare F1 |" in lines
    assert "| V18 | 0.1000 | 0.2000 | 0.4500 | 0.8800 | 0.8800 | 0.8000 | 0.9450 | 0.8800 |  |  |" in lines
    assert "| method | ms/batch | peak memory, MB | refresh, s | parameters | imputation, s |" in lines
    assert "| Beagle 5.4 |  |  |  |  | 9.0 |" in lines
    assert "| V18 / V17 | 0.200 | 0.250 |  | 1.100 | 0.400 |" in lines


def test_console_tables_fit_a_narrow_terminal_whole() -> None:
    console = Console(file=StringIO(), width=80)
    console.print(compare([V17, V18]).table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    for word in ("Accuracy", "Cost", "Beagle 5.4", "0.4500", "V18 / V17"):
        assert word in text


@pytest.mark.integration  # draws figures: seconds of work
def test_writes_json_markdown_and_both_figures(tmp_path: Path) -> None:
    comparison = compare([V17, V18])
    comparison.write(tmp_path)
    assert json.loads((tmp_path / "compare.json").read_text()) == comparison.as_dict()
    assert (tmp_path / "compare.md").read_text() == comparison.markdown()
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "compare.svg").read_text()
    assert "</svg>" in svg
    comparison.write(tmp_path)
    assert (tmp_path / "compare.svg").read_text() == svg  # the same figures give the same file
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".json", ".md", ".png", ".svg"]


@pytest.mark.parametrize(
    ("reports", "code"),
    [([], "nothing_to_compare"), ([{"array": {}}], "report_invalid"), ([V18, V18], "report_twice")],
)
def test_compare_refuses_reports_without_distinct_variants(reports: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(InputError) as caught:
        compare(reports)
    assert caught.value.code == code


def test_differences_are_from_the_first_report_with_r2_sums() -> None:
    r2_sums = {"v18": r2_sums_of(0.4), "v17": r2_sums_of(0.05, rare_noise=0.8)}
    assert compare([V18, V17], r2_sums=r2_sums).baseline == "v18"
    comparison = compare([V18, V17], r2_sums=r2_sums)
    found = {one.bin: one.verdict for one in comparison.differences["v17"]}
    assert found == {"0-0.5%": "worse", "5-50%": "better", "all": "worse"}
    told = comparison.as_dict()["differences"]
    assert told["baseline"] == "v18"
    assert [row["bin"] for row in told["methods"]["v17"]] == ["0-0.5%", "5-50%", "all"]
    text = comparison.markdown()
    assert "## Differences of r² from V18" in text
    assert "| r² less that of V18 | 0-0.5% | 5-50% | all |" in text


def test_evaluations_without_paired_r2_sums_have_no_differences() -> None:
    other = {"v17": r2_sums_of(0.4), "v18": r2_sums_of(0.2, truth_seed=5)}
    for r2_sums in (None, {}, {"v17": r2_sums_of(0.4)}, other):
        comparison = compare([V17, V18], r2_sums=r2_sums)
        assert comparison.differences == {}
        assert "Differences of r² from" not in comparison.markdown()
        assert "differences" not in comparison.as_dict()


@pytest.mark.integration  # draws figures: seconds of work
def test_html_page_is_self_contained_and_marks_worse_cells(tmp_path: Path) -> None:
    odd = {**V18, "variant": "<v18>"}
    compare([V17, odd], r2_sums={"v17": r2_sums_of(0.2), "<v18>": r2_sums_of(0.6)}).write(tmp_path)
    page = (tmp_path / "compare.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert not re.search(r"(src|href)=.(https?:)?//|@import|<script|<link", page)
    assert '<td class="worse">-' in page
    assert "<v18>" not in page
    assert "&lt;v18&gt;" in page
    for title in ("Differences", "Quality against cost", "Overview"):
        assert f"<h2>{title}</h2>" in page
