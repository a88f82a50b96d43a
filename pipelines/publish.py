"""publish: the best bundle by validation -> MLflow registry, through the promotion gate."""

from __future__ import annotations

import json

from pipelines.common import METRICS, MODELS, REPORTS, run_stage
from vcfbert.artifacts import write_json
from vcfbert.config import Config
from vcfbert.constants import VARIANTS
from vcfbert.errors import InputError
from vcfbert.tracking.promotion import Candidate, publish


def main(config: Config) -> None:
    trained = {variant: json.loads((METRICS / variant / "train.json").read_text()) for variant in VARIANTS}
    candidates = {
        variant: Candidate(
            MODELS / variant,
            run["metrics"],
            run["model_uri"],
            run["data_digest"],
            REPORTS / "evaluate" / f"{variant}.npz",
        )
        for variant, run in trained.items()
    }
    settings = config.publish
    try:
        promotion = publish(
            candidates,
            name=settings.name,
            alias=settings.alias,
            metric=settings.metric,
            minimum=settings.minimum,
            force=settings.force,
        )
    except InputError as error:
        if error.code != "gate_refused":
            raise
        # A refusal is a result of the experiment; the pipeline does not fail.
        write_json(REPORTS / "publish.json", {"published": False, "why": error.what})
        print(f"not published: {error.what}")
        return
    published = promotion.version
    outcome = {
        "published": True,
        "name": published.name,
        "alias": settings.alias,
        "variant": published.variant,
        "metric": published.metric,
        "value": published.value,
        "why": published.why,
        "differences": [difference.as_dict() for difference in promotion.differences],
    }
    write_json(REPORTS / "publish.json", outcome)
    print(f"models:/{published.name}@{settings.alias} is {published.variant}: {published.why}")


if __name__ == "__main__":
    run_stage(main)
