"""evaluate VARIANT: bundle -> imputed targets and figures of both protocols; also of unphased targets, if supported."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from pipelines.common import METRICS, MODELS, REPORTS, run_stage
from vcfbert.artifacts import write_json, write_text
from vcfbert.bundle.load import load_bundle
from vcfbert.config import Config
from vcfbert.evaluation.protocols import array_protocol, masked_protocol, training_cost
from vcfbert.evaluation.scoring import FIGURES
from vcfbert.tracking.run_evaluations import R2_SUMS, REPORT, keep_evaluation
from vcfbert.tracking.store import project_root


def main(variant: str, config: Config) -> None:
    bundle = load_bundle(MODELS / variant)
    imputed = REPORTS / "imputed" / variant
    scores, cost = array_protocol(bundle, config.evaluate, imputed / "phased.vcf.gz")
    trained = json.loads((METRICS / variant / "train.json").read_text())
    report = {
        "variant": variant,
        "k": bundle.k,
        "array": scores.as_dict(),
        "masked": masked_protocol(bundle, config.evaluate, config.train.seed),
        "training": training_cost(trained),
        "imputation": cost,
    }
    if bundle.model.takes_unphased:
        unphased, cost = array_protocol(bundle, config.evaluate, imputed / "unphased.vcf.gz", unphased=True)
        report |= {"array_unphased": unphased.as_dict(), "imputation_unphased": cost}
    path = REPORTS / "evaluate" / f"{variant}.json"
    write_json(path, report)
    scores.r2_sums.write(path.with_suffix(".npz"))
    keep_evaluation(trained["run_id"], {REPORT: path, R2_SUMS: path.with_suffix(".npz")}, project_root())
    write_json(METRICS / variant / "evaluate.json", _summary(report))
    write_text(METRICS / variant / "bins.csv", scores.csv())
    print(scores.table())


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """The figures that `dvc metrics` and `dvc exp show` list."""
    figures = {name: {row["bin"]: row[name] for row in report["array"]["rows"]} for name in FIGURES}
    if "array_unphased" in report:
        figures["unphased_r2"] = {row["bin"]: row["aggregate_r2"] for row in report["array_unphased"]["rows"]}
    seconds, ms = report["imputation"]["seconds"], report["training"]["ms_per_batch"]
    times = {"imputation_seconds": round(seconds, 2), "ms_per_batch": None if ms is None else round(ms, 1)}
    return {**figures, "masked": report["masked"], **times}


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
