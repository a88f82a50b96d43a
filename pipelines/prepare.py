"""prepare: panel VCF and genetic map -> panel store, split by sample."""

from __future__ import annotations

from pathlib import Path

from pipelines.common import PANEL, run_stage
from vcfbert.config import Config
from vcfbert.copying.panel_filler import PanelFiller
from vcfbert.genotypes.conversion import panels_of
from vcfbert.genotypes.store import is_panel, write_panels


def main(config: Config) -> None:
    panels = panels_of(config.prepare, PANEL, PanelFiller(config.prepare.max_missing))
    if is_panel(Path(config.prepare.panels[0])):  # an existing store is copied, because DVC owns the stage's output
        write_panels(panels, PANEL)
    for panel in panels:
        print(
            f"{len(panel.samples)} samples ({len(panel.validation)} for validation), {panel.n_sites} sites of "
            f"{panel.sites.chrom}:{panel.sites.pos[0]}-{panel.sites.pos[-1]}, {panel.cm[-1] - panel.cm[0]:.2f} cM"
        )


if __name__ == "__main__":
    run_stage(main)
