"""tune VARIANT: encoded panel -> a study of parameters, its report and patch in reports/tune/VARIANT."""

from __future__ import annotations

import sys
from functools import partial

from pipelines.common import CHECKPOINTS, ENCODED, PANEL, REPORTS, run_stage
from vcfbert.cli.console import ConsoleProgress
from vcfbert.config import Config
from vcfbert.genotypes.encoding import open_encodings
from vcfbert.genotypes.store import open_panels
from vcfbert.tracking.store import study_storage
from vcfbert.tuning.plots import write_report
from vcfbert.tuning.study import Settings, Worker, run_study, summary


def main(variant: str, config: Config) -> None:
    panels = open_panels(PANEL)
    settings = Settings(study_storage(), CHECKPOINTS / "tune")
    with ConsoleProgress() as progress:
        worker = Worker(panels, open_encodings(ENCODED, panels), config, variant, settings, progress=progress)
        study, _ = run_study(
            worker,
            config.tune.trials,
            lambda study: write_report(study, config, variant, REPORTS / "tune" / variant),
        )
    print({"study": study.study_name, **summary(study)})


if __name__ == "__main__":
    run_stage(partial(main, sys.argv[1]))
