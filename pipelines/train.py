"""train VARIANT: encoded panel -> bundle in models/VARIANT, figures in MLflow and metrics/VARIANT."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

from pipelines.common import CHECKPOINTS, EMBEDDED, ENCODED, METRICS, MODELS, PANEL, run_stage
from vcfbert.artifacts import write_json
from vcfbert.cli.console import ConsoleProgress
from vcfbert.config import Config
from vcfbert.genotypes.encoding import open_encodings
from vcfbert.genotypes.store import open_panels, panels_digest
from vcfbert.tracking.dvc_lock import stage_digests
from vcfbert.tracking.mlflow_tracker import open_tracker
from vcfbert.training.fit import fitter_of
from vcfbert.training.result import FitOutput


def main(variant: str, config: Config) -> None:
    panels = open_panels(PANEL)
    indexes = None
    if variant == "v18":
        from vcfbert.retrieval.embedded import open_training_indexes  # imports torch, which V19 does not need

        indexes = open_training_indexes(EMBEDDED, panels)
    with ConsoleProgress() as progress:
        fitter = fitter_of(
            variant,
            panels,
            lambda: open_encodings(ENCODED, panels),
            config,
            indexes=indexes,
            progress=progress,
        )
        output = FitOutput(
            MODELS / variant,
            open_tracker(),
            checkpoints=CHECKPOINTS,
            metrics_csv=METRICS / variant / "latest.csv",
            tags={"source": "dvc"},
            data={"panel": panels_digest(panels), **stage_digests()},
        )
        result = fitter.fit(output)
    write_json(METRICS / variant / "train.json", dataclasses.asdict(result))


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
