"""compare: write tables, figures and a page from all variants' and baselines' reports; log them to MLflow."""

from __future__ import annotations

import json

from rich.console import Console

from pipelines.common import METRICS, REPORTS, run_stage
from vcfbert.config import Config
from vcfbert.constants import VARIANTS
from vcfbert.metrics.r2_sums import read_r2_sums
from vcfbert.reports.comparison import compare
from vcfbert.reports.drawing import save_figure
from vcfbert.reports.plots import calibration, training_curves
from vcfbert.tracking.mlflow_tracker import open_tracker


def main(config: Config) -> None:
    reports = [json.loads((REPORTS / "evaluate" / f"{variant}.json").read_text()) for variant in VARIANTS]
    reports[0]["peers"] = json.loads((REPORTS / "evaluate" / "baselines.json").read_text())
    r2_sums = {variant: read_r2_sums(REPORTS / "evaluate" / f"{variant}.npz") for variant in VARIANTS}
    comparison = compare(reports, r2_sums=r2_sums)
    comparison.write(REPORTS)
    histories = {variant: METRICS / variant / "latest.csv" for variant in VARIANTS}
    save_figure(training_curves(histories), REPORTS / "training.png")
    points = {report["variant"]: report["array"]["rows"][-1]["calibration"] for report in reports}
    save_figure(calibration(points), REPORTS / "calibration.png")
    figures = [REPORTS / "training.png", REPORTS / "calibration.png"]
    comparison.record(open_tracker(system_metrics=False), ", ".join(VARIANTS), figures)
    Console(width=160).print(comparison.table())


if __name__ == "__main__":
    run_stage(main)
