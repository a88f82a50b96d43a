"""prepare: panel VCF and genetic map -> panel store, split by sample."""

from __future__ import annotations

from pathlib import Path

from pipelines.common import PANEL, run_stage
from vcfbert.config import Config
from vcfbert.genotypes.store import build_panel


def main(config: Config) -> None:
    prepare = config.prepare
    panel = build_panel(
        Path(prepare.panel),
        PANEL,
        genetic_map=None if prepare.map is None else Path(prepare.map),
        region=prepare.region,
        holdout=prepare.holdout,
        seed=prepare.seed,
    )
    print(
        f"{len(panel.samples)} samples ({len(panel.validation)} for validation), {panel.n_sites} sites of "
        f"{panel.sites.chrom}:{panel.sites.pos[0]}-{panel.sites.pos[-1]}, {panel.cm[-1] - panel.cm[0]:.2f} cM"
    )


if __name__ == "__main__":
    run_stage(main)
