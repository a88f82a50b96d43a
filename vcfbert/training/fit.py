"""Fits a panel file to a bundle in one call, without DVC; ``vcfbert fit`` calls it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vcfbert.artifacts import check_replaceable
from vcfbert.config import Config
from vcfbert.constants import BUNDLE_KIND
from vcfbert.copying.panel_filler import PanelFiller
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import panels_of
from vcfbert.genotypes.encoding import Encoding, encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import panels_digest
from vcfbert.tracker import Tracker
from vcfbert.training.hmm_fit import HmmFit
from vcfbert.training.progress import FitProgress, SilentProgress
from vcfbert.training.result import FitOutput, FitResult, Fitter

if TYPE_CHECKING:
    from vcfbert.retrieval.base import KeyIndex


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
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder:
        panels = panels_of(config.prepare, Path(folder) / "panel", PanelFiller(config.prepare.max_missing))
        shown = progress or SilentProgress()
        for panel in panels:
            shown.message(f"panel: {len(panel.samples)} samples, {panel.n_sites} sites of {panel.region}")
        fitter = fitter_of(
            variant,
            panels,
            lambda: [encode(panel, config.encode) for panel in panels],
            config,
            accelerator=accelerator,
            devices=devices,
            progress=progress,
        )
        output = FitOutput(
            out,
            tracker,
            checkpoints=out.parent / ".checkpoints",
            metrics_csv=out.with_name(f"{out.name}.metrics.csv"),
            tags={"source": "fit"},
            data={"panel": panels_digest(panels)},
        )
        return fitter.fit(output)


def fitter_of(
    variant: str,
    panels: Sequence[Panel],
    encodings: Callable[[], Sequence[Encoding]],
    config: Config,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    indexes: Sequence[KeyIndex] | None = None,
    progress: FitProgress | None = None,
) -> Fitter:
    """The fitter of ``variant``. torch is imported only for V17 and V18.

    ``encodings``: gives one encoding per panel, which V19 does not need. The other arguments are those of ``Trainer``.
    """
    if variant == "v19":
        if devices > 1:
            raise InputError(
                "devices", "V19 is fitted by one process", hint="omit --devices and torchrun; V17 and V18 use them"
            )
        return HmmFit(panels, config, progress=progress)
    from vcfbert.training.loop import Trainer

    return Trainer(
        panels,
        encodings(),
        config,
        variant,
        accelerator=accelerator,
        devices=devices,
        indexes=indexes,
        progress=progress,
    )
