"""Draws how CPU time grows with the panel, 600 to 1,000,000 haplotypes, into docs/results/growth.png.

    python -m benchmarks.growth_figure     # after `bench_imputation.py --growth` and `bench_million.py`

It reads reports/bench_imputation_growth.json and reports/bench_million.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks._line_panels import LinePanel, line_panels
from vcfbert.reports.drawing import method_label, save_figure

ROOT = Path(__file__).resolve().parents[1]
TARGETS = 100
TOOLS = ("vcfbert", "beagle", "minimac4")
Report = Mapping[str, Any]
Line = list[tuple[float, float]]


def growth_figure(growth: Report, million: Report) -> Figure:
    """CPU seconds of phased and of unphased targets against haplotypes, both logarithmic."""
    panels = []
    for phase in ("phased", "unphased"):
        lines = {_label(tool): _growth_line(growth, tool, phase) for tool in TOOLS}
        rows = [row for row in million["rows"] if row["input"] == phase]
        label = f"V19, {million['length_mb']:g} Mb"
        lines[label] = sorted((float(row["haplotypes"]), row["cpu_seconds"]) for row in rows)
        shown = {label: line for label, line in lines.items() if line}
        title = f"{TARGETS} {phase} targets"
        panels.append(LinePanel(title, "Haplotypes of the panel", "CPU, s", shown, log_x=True, log_y=True))
    return line_panels(panels)


def _growth_line(growth: Report, tool: str, phase: str) -> Line:
    cases = [case for case in growth["cases"] if case["targets"] == TARGETS]
    found = ((case["haplotypes"], row) for case in cases for row in case["rows"])
    return sorted(
        (float(haplotypes), row["cpu_seconds"])
        for haplotypes, row in found
        if (row["tool"], row["input"]) == (tool, phase) and "cpu_seconds" in row
    )


def _label(tool: str) -> str:
    return "V19" if tool == "vcfbert" else method_label(tool)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    names = ("bench_imputation_growth", "bench_million")
    growth, million = (json.loads((ROOT / "reports" / f"{name}.json").read_text()) for name in names)
    save_figure(growth_figure(growth, million), ROOT / "docs" / "results" / "growth.png")


if __name__ == "__main__":
    main()
