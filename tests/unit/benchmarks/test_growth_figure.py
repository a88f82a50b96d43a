"""The figure of growth has a line a tool and a point a panel of 100 targets, on logarithmic axes."""

from __future__ import annotations

from typing import Any

from benchmarks.growth_figure import growth_figure


def _case(haplotypes: int, targets: int, *cpu: float | None) -> dict[str, Any]:
    rows = [
        {"tool": tool, "input": "phased"} | ({} if seconds is None else {"cpu_seconds": seconds})
        for tool, seconds in zip(("vcfbert", "beagle", "minimac4"), cpu, strict=True)
    ]
    return {"haplotypes": haplotypes, "targets": targets, "rows": rows}


def test_lines_have_points_of_panels_with_100_targets() -> None:
    growth = {
        "cases": [_case(2_000, 10, 9.0, 9.0, 9.0), _case(2_000, 100, 2.0, 8.0, 1.0), _case(600, 100, 1.0, 4.0, None)]
    }
    rows = [{"haplotypes": 50_000, "input": "phased", "cpu_seconds": 1.5}]
    million = {"length_mb": 0.25, "rows": rows}
    phased, unphased = growth_figure(growth, million).axes
    drawn = [list(zip(*line.get_data(), strict=True)) for line in phased.get_lines()]
    assert drawn == [
        [(600.0, 1.0), (2_000.0, 2.0)],
        [(600.0, 4.0), (2_000.0, 8.0)],
        [(2_000.0, 1.0)],
        [(50_000.0, 1.5)],
    ]
    assert (phased.get_xscale(), phased.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in phased.texts] == ["Minimac4", "V19, 0.25 Mb", "V19", "Beagle"]
    assert not unphased.get_lines()
