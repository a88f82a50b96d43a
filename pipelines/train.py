"""train VARIANT: encoded panel -> bundle in models/VARIANT, figures in MLflow and metrics/VARIANT."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipelines.common import CHECKPOINTS, EMBEDDED, ENCODED, METRICS, MODELS, PANEL, run_stage
from vcfbert.artifacts import write_json
from vcfbert.cli.console import ConsoleProgress
from vcfbert.config import Config
from vcfbert.genotypes.encoding import open_encodings
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels, panels_digest
from vcfbert.tracking.dvc_lock import stage_digests
from vcfbert.tracking.mlflow_tracker import open_tracker
from vcfbert.training.fit import fitter_of

if TYPE_CHECKING:
    from vcfbert.retrieval.base import KeyIndex


def main(variant: str, config: Config) -> None:
    panels = open_panels(PANEL)
    with ConsoleProgress() as progress:
        fitter = fitter_of(
            variant,
            panels,
            lambda: open_encodings(ENCODED, panels),
            config,
            indexes=_indexes(variant, panels),
            progress=progress,
        )
        result = fitter.fit(
            MODELS / variant,
            tracker=open_tracker(),
            checkpoints=CHECKPOINTS,
            metrics_csv=METRICS / variant / "latest.csv",
            tags={"source": "dvc"},
            data={"panel": panels_digest(panels), **stage_digests()},
        )
    write_json(METRICS / variant / "train.json", dataclasses.asdict(result))


def _indexes(variant: str, panels: Sequence[Panel]) -> Sequence[KeyIndex] | None:
    """The indexes of the stage ``embed``, for V18 on a CPU."""
    if variant != "v18":
        return None
    import torch

    from vcfbert.retrieval.embedded import open_indexes

    if torch.cuda.is_available():
        return None
    return open_indexes(EMBEDDED, [ReferenceSubset(panel, panel.training_haplotypes) for panel in panels])


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
