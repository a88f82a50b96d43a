"""peers: Beagle and Minimac4, where they are on PATH, on the same panel and targets -> their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.common import PANEL, REPORTS, run_stage
from vcfbert.artifacts import write_json
from vcfbert.config import Config
from vcfbert.evaluation import Evaluation, score_array, typed_targets
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import open_panel
from vcfbert.peers import TAKES_UNPHASED, PeerRun, find_peers, run_peer


def main(config: Config) -> None:
    panel = open_panel(PANEL)
    found = find_peers() if config.evaluate.peers else {}
    if not found:
        print("neither Beagle nor Minimac4 is on PATH: compared without them")
    report: dict[str, dict[str, Any]] = {}
    for name in found:
        scores, run = _score(name, config, panel)
        report[name] = {"array": scores.as_dict(), **run.as_dict()}
        if name in TAKES_UNPHASED:
            scores, run = _score(name, config, panel, unphased=True)
            report[name] |= {"array_unphased": scores.as_dict(), "imputation_unphased": {"seconds": run.seconds}}
    write_json(REPORTS / "evaluate" / "peers.json", report)


def _score(name: str, config: Config, panel: Panel, *, unphased: bool = False) -> tuple[Evaluation, PeerRun]:
    form = "unphased" if unphased else "phased"
    run = run_peer(
        name,
        Path(config.prepare.panel),
        typed_targets(config.evaluate, unphased=unphased),
        None if config.prepare.map is None else Path(config.prepare.map),
        REPORTS / "imputed" / name / f"{form}.vcf.gz",
        threads=2,
    )
    scores = score_array(config.evaluate, run.path, panel, unphased=unphased)
    print(f"{name} {run.version}, {form} targets: {run.seconds:.1f} s\n{scores.table()}")
    return scores, run


if __name__ == "__main__":
    run_stage(main)
