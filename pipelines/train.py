"""train VARIANT: encoded panel -> bundle in models/VARIANT, figures in MLflow and metrics/VARIANT."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

import torch

from pipelines.common import CHECKPOINTS, EMBEDDED, ENCODED, METRICS, MODELS, PANEL, run_stage
from vcfbert.artifacts import write_json
from vcfbert.config import Config
from vcfbert.dvc_lock import stage_digests
from vcfbert.genotypes.encoding import open_encoding
from vcfbert.genotypes.memory import Memory
from vcfbert.genotypes.store import open_panel
from vcfbert.retrieval.embedded import open_index
from vcfbert.tracking import open_tracker
from vcfbert.training.loop import Trainer
from vcfbert.training.progress import ConsoleProgress


def main(variant: str, config: Config) -> None:
    panel = open_panel(PANEL)
    index = None
    if variant == "v18" and not torch.cuda.is_available():
        index = open_index(EMBEDDED, Memory(panel, panel.memory_haplotypes))
    with ConsoleProgress() as progress:
        trainer = Trainer(panel, open_encoding(ENCODED, panel), config, variant, index=index, progress=progress)
        result = trainer.fit(
            MODELS / variant,
            tracker=open_tracker(),
            checkpoints=CHECKPOINTS,
            metrics_csv=METRICS / variant / "latest.csv",
            tags={"source": "dvc"},
            data={"panel": panel.digest, **stage_digests()},
        )
    write_json(METRICS / variant / "train.json", dataclasses.asdict(result))


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
