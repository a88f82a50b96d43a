"""The two evaluation protocols of a bundle: *masked* haplotypes of the panel, and *array* targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from vcfbert.bundle.contents import Bundle
from vcfbert.config import EvaluateConfig
from vcfbert.evaluation.scoring import Evaluation, score_array, typed_targets
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation.files import impute_file
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.predictors import held_out_predictor_of
from vcfbert.imputation.progress import Progress
from vcfbert.kernels import usable_threads
from vcfbert.training.validation import Scores, masked_typing, score_windows


def masked_protocol(bundle: Bundle, config: EvaluateConfig, seed: int) -> dict[str, dict[str, float]]:
    """F1 and rare F1 of masked alleles, of the validation samples and of as many training samples.

    ``config`` has the fractions of masked sites and the minimum MAF. The reference subset is the training split; a
    query's own sample is excluded from it.
    """
    figures = {"train": Scores(), "validation": Scores()}
    for part in bundle.parts:
        panel = part.panel
        subset = ReferenceSubset(panel, panel.training_haplotypes)
        predict = held_out_predictor_of(bundle, subset, batch_size=config.batch_size, threads=usable_threads())
        trained = [i for i in range(len(panel.samples)) if i not in set(panel.validation)]
        for split, samples in (("train", trained[: len(panel.validation)]), ("validation", list(panel.validation))):
            haplotypes, typed = panel.haplotypes_of(samples), masked_typing(subset, config, seed)
            scores = score_windows(predict, panel, part.windows, haplotypes, typed, min_maf=config.min_maf)
            figures[split].merge(scores)
    return {split: scores.f1.values() for split, scores in figures.items()}


def training_cost(trained: Mapping[str, Any]) -> dict[str, float | None]:
    """The cost of training, from its report, in milliseconds, MB and seconds.

    ``refreshes``: number of refreshes of the index up to the best epoch. ``refresh_seconds``: time of one refresh.
    """
    metrics = trained["metrics"]
    return {
        "ms_per_batch": metrics.get("ms_per_batch"),  # V19 has no batches
        "peak_memory_mb": metrics.get("peak_cuda_mb", metrics["peak_rss_mb"]),
        "refreshes": metrics.get("index/version"),
        "refresh_seconds": metrics.get("refresh/seconds"),
        "refresh_share": metrics.get("refresh/share_of_epoch"),
        "parameters": trained["parameters"],
        "seconds": trained["seconds"],
    }


def array_protocol(
    bundle: Bundle, config: EvaluateConfig, out: Path, *, unphased: bool = False, progress: Progress | None = None
) -> tuple[Evaluation, dict[str, Any]]:
    """Imputes the targets from their typed sites, phased or ``unphased``, into ``out`` and scores them.

    Returns the scores and the cost of imputation. Only this protocol reads the truth.
    """
    typed = typed_targets(config, unphased=unphased)
    started = perf_counter()
    impute_file(Imputer(bundle, batch_size=config.batch_size), typed, out, progress=progress)
    seconds = perf_counter() - started
    scores = score_array(config, out, bundle.panels, unphased=unphased)
    return scores, {"seconds": seconds, "samples_per_s": scores.samples / seconds}
