"""baselines: run Beagle and Minimac4, where installed, on the same panel and targets and score them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.common import PANEL, REPORTS, run_stage
from vcfbert.artifacts import write_json
from vcfbert.config import Config
from vcfbert.evaluation.baselines import TAKES_UNPHASED, BaselineRun, find_baselines, run_baseline
from vcfbert.evaluation.scoring import Evaluation, score_array, typed_targets
from vcfbert.genotypes.conversion import CHROM
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import is_panel, open_panels


def main(config: Config) -> None:
    panels = open_panels(PANEL)
    files = [Path(path) for path in (*config.prepare.panels, *config.prepare.maps)]
    single = (
        len(config.prepare.panels) == 1 and len(files) <= 2 and not is_panel(files[0]) and CHROM not in str(files[0])
    )
    found = find_baselines() if config.evaluate.peers and single else {}
    if not found:
        print("neither Beagle nor Minimac4 is on PATH, or the panel is not a single file; the comparison omits them")
    report: dict[str, dict[str, Any]] = {}
    for name in found:
        scores, run = _score(name, config, panels, files)
        report[name] = {"array": scores.as_dict(), **run.as_dict()}
        if name in TAKES_UNPHASED:
            scores, run = _score(name, config, panels, files, unphased=True)
            report[name] |= {"array_unphased": scores.as_dict(), "imputation_unphased": {"seconds": run.seconds}}
    write_json(REPORTS / "evaluate" / "baselines.json", report)


def _score(
    name: str, config: Config, panels: Sequence[Panel], files: Sequence[Path], *, unphased: bool = False
) -> tuple[Evaluation, BaselineRun]:
    """``files``: the panel's and, if there is one, the genetic map."""
    form = "unphased" if unphased else "phased"
    run = run_baseline(
        name,
        files[0],
        typed_targets(config.evaluate, unphased=unphased),
        files[1] if len(files) > 1 else None,
        REPORTS / "imputed" / name / f"{form}.vcf.gz",
        threads=2,
    )
    scores = score_array(config.evaluate, run.path, panels, unphased=unphased)
    print(f"{name} {run.version}, {form} targets: {run.seconds:.1f} s\n{scores.table()}")
    return scores, run


if __name__ == "__main__":
    run_stage(main)
