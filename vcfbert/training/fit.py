"""From a panel file to a bundle in one call, without DVC: what ``vcfbert fit`` does. The stages do it in steps."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vcfbert.artifacts import check_replaceable
from vcfbert.config import Config
from vcfbert.constants import BUNDLE_KIND
from vcfbert.genotypes.conversion import panels_of
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.store import panels_digest
from vcfbert.tracker import Tracker
from vcfbert.training.loop import FitResult, Trainer
from vcfbert.training.progress import FitProgress, SilentProgress


def fit_panel(
    config: Config,
    variant: str,
    out: Path,
    *,
    tracker: Tracker,
    accelerator: str = "auto",
    devices: int = 1,
    progress: FitProgress | None = None,
) -> FitResult:
    """Reads ``config.prepare.panel``, trains ``variant`` and writes the bundle ``out``, with its metrics as
    ``<out>.metrics.csv``. An interrupted fit goes on from its last epoch when called again. Raises InputError."""
    check_replaceable(out, BUNDLE_KIND)  # before hours of training, not after
    checkpoints = out.parent / ".checkpoints"
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        panels = panels_of(config.prepare, Path(folder) / "panel")
        told = progress or SilentProgress()
        for panel in panels:
            told.message(f"panel: {len(panel.samples)} samples, {panel.n_sites} sites of {panel.region}")
        trainer = Trainer(
            panels,
            [encode(panel, config.encode) for panel in panels],
            config,
            variant,
            accelerator=accelerator,
            devices=devices,
            progress=progress,
        )
        return trainer.fit(
            out,
            tracker=tracker,
            checkpoints=checkpoints,
            metrics_csv=out.with_name(f"{out.name}.metrics.csv"),
            tags={"source": "fit"},
            data={"panel": panels_digest(panels)},
        )
