"""train VARIANT: encoded panel -> bundle in models/VARIANT, figures in MLflow and metrics/VARIANT."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

import torch

from pipelines.common import CHECKPOINTS, EMBEDDED, ENCODED, METRICS, MODELS, PANEL, run_stage
from vcfbert.artifacts import write_json
from vcfbert.cli.console import ConsoleProgress
from vcfbert.config import Config
from vcfbert.genotypes.encoding import open_encodings
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels, panels_digest
from vcfbert.retrieval.embedded import open_indexes
from vcfbert.tracking.dvc_lock import stage_digests
from vcfbert.tracking.mlflow_tracker import open_tracker
from vcfbert.training.loop import Trainer


def main(variant: str, config: Config) -> None:
    panels = open_panels(PANEL)
    indexes = None
    if variant == "v18" and not torch.cuda.is_available():
        indexes = open_indexes(EMBEDDED, [ReferenceSubset(panel, panel.training_haplotypes) for panel in panels])
    with ConsoleProgress() as progress:
        encodings = open_encodings(ENCODED, panels)
        trainer = Trainer(panels, encodings, config, variant, indexes=indexes, progress=progress)
        result = trainer.fit(
            MODELS / variant,
            tracker=open_tracker(),
            checkpoints=CHECKPOINTS,
            metrics_csv=METRICS / variant / "latest.csv",
            tags={"source": "dvc"},
            data={"panel": panels_digest(panels), **stage_digests()},
        )
    write_json(METRICS / variant / "train.json", dataclasses.asdict(result))


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
