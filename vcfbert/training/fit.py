"""From a panel file to a bundle in one call, without DVC: what ``vcfbert fit`` does. The stages do it in steps."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vcfbert.artifacts import check_replaceable
from vcfbert.config import Config
from vcfbert.constants import BUNDLE_KIND
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.store import build_panel
from vcfbert.training.loop import FitResult, Tracker, Trainer
from vcfbert.training.progress import FitProgress


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
        panel = build_panel(
            Path(config.prepare.panel),
            Path(folder) / "panel",
            genetic_map=None if config.prepare.map is None else Path(config.prepare.map),
            region=config.prepare.region,
            holdout=config.prepare.holdout,
            seed=config.prepare.seed,
        )
        if progress is not None:
            progress.message(f"panel: {len(panel.samples)} samples, {panel.n_sites} sites of {panel.sites.chrom}")
        trainer = Trainer(
            panel,
            encode(panel, config.encode),
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
            data={"panel": panel.digest},
        )
