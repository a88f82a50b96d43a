"""Fits a panel file to a bundle in one call, without DVC; ``vcfbert fit`` calls it."""

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
    """Reads ``config.prepare.panel``, trains ``variant`` and writes the bundle ``out`` and ``<out>.metrics.csv``.

    Called again after an interruption, it resumes after the last finished epoch. Raises InputError for a panel that
    cannot be used, and what ``Trainer.fit`` raises.
    """
    check_replaceable(out, BUNDLE_KIND)  # before training, which may take hours
    checkpoints = out.parent / ".checkpoints"
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        panels = panels_of(config.prepare, Path(folder) / "panel")
        shown = progress or SilentProgress()
        for panel in panels:
            shown.message(f"panel: {len(panel.samples)} samples, {panel.n_sites} sites of {panel.region}")
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
