"""peers: Beagle and Minimac4, where they are on PATH, on the same panel and targets -> their figures."""

from __future__ import annotations

from pathlib import Path

from pipelines.common import PANEL, REPORTS, run_stage
from vcfbert.artifacts import write_json
from vcfbert.config import Config
from vcfbert.evaluation import score_array
from vcfbert.genotypes.store import open_panel
from vcfbert.peers import find_peers, run_peer


def main(config: Config) -> None:
    panel = open_panel(PANEL)
    genetic_map = None if config.prepare.map is None else Path(config.prepare.map)
    found = find_peers() if config.evaluate.peers else {}
    if not found:
        print("neither Beagle nor Minimac4 is on PATH: compared without them")
    report = {}
    for name in found:
        out = REPORTS / "imputed" / f"{name}.vcf.gz"
        run = run_peer(
            name, Path(config.prepare.panel), Path(str(config.evaluate.typed_phased)), genetic_map, out, threads=2
        )
        scores = score_array(config.evaluate, run.path, panel)
        report[name] = {"array": scores.as_dict(), **run.as_dict()}
        print(f"{name} {run.version}: {run.seconds:.1f} s\n{scores.table()}")
    write_json(REPORTS / "evaluate" / "peers.json", report)


if __name__ == "__main__":
    run_stage(main)
