"""Fits V19 to panels and writes the bundle. It needs numpy and compiled code, not torch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcfbert.artifacts import write_json
from vcfbert.bundle.contents import save_copying_model
from vcfbert.config import Config
from vcfbert.copying.mixture import CopyingModel, Rates
from vcfbert.genotypes.encoding import hmm_windows
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import data_digest, panels_digest
from vcfbert.imputation.hmm_predictor import held_out_predictor
from vcfbert.kernels import usable_threads
from vcfbert.tracker import Tracker
from vcfbert.training.host_memory import peak_memory_mb
from vcfbert.training.metrics_csv import MetricsCsv
from vcfbert.training.progress import FitProgress, SilentProgress
from vcfbert.training.rate_search import RateSearch
from vcfbert.training.result import AfterEpoch, FitOutput, FitResult, panel_too_small
from vcfbert.training.validation import MAX_VALIDATED, Scores, array_typing, figures, masked_typing, score_windows

STAGES = {  # of ``RateSearch``, in order
    "panel": "rates in the panel's phase",
    "pair": "rates of the pair HMM",
    "phased": "rates in an inferred phase",
    "sampled": "rates over sampled phasings",
}


class HmmFit:
    """Fits V19 to the training splits of all panels together."""

    def __init__(
        self,
        panels: Sequence[Panel],
        config: Config,
        *,
        progress: FitProgress | None = None,
        threads: int | None = None,
    ) -> None:
        """``threads``: all that the process may use if None. Raises InputError where V19 has no haplotype to copy."""
        self.panels = panels
        self.config = config
        self.progress = progress or SilentProgress()
        self._threads = threads or usable_threads()
        self._references = [ReferenceSubset(panel, panel.training_haplotypes) for panel in panels]
        # A query never copies the two haplotypes of its own sample.
        self._k = min(config.retrieval.k["v19"], *(len(reference) - 2 for reference in self._references))
        if self._k < 1:
            raise panel_too_small(min(map(len, self._references)))

    def fit(self, output: FitOutput, *, after_epoch: AfterEpoch | None = None) -> FitResult:
        """Searches, or continues an interrupted search, and writes the bundle."""
        started = time.perf_counter()
        digest = self.config.training_digest("v19", data_digest(self.panels))
        steps = SearchSteps(output.checkpoints / f"v19-{digest}" / "search.json", output.tracker, self.progress)
        params = {**self.config.as_dict(), "variant": "v19", "parameters": CopyingModel.first().n_parameters}
        tracker, tags = output.tracker, output.run_tags("v19")
        with tracker.start("v19", params, tags, run_id=steps.run_id or None) as run_id:
            steps.started(run_id)
            model, found = self._search(steps)
            metrics = {**found, **self._validated(model), "peak_rss_mb": peak_memory_mb()}
            metrics["epoch_seconds"] = time.perf_counter() - started
            tracker.log_metrics(metrics, steps.count)
            MetricsCsv(output.metrics_csv).append(0, metrics)
            if after_epoch is not None:
                after_epoch(0, metrics)
            uri = ""
            if output.bundle is not None:
                save_copying_model(output.bundle, model, self.panels, self.config, metrics=metrics, data=output.data)
                uri = tracker.log_bundle(output.bundle, "v19")
            tracker.log_artifact(output.metrics_csv)
            steps.clear()
        seconds = steps.seconds_before + time.perf_counter() - started
        return FitResult(run_id, uri, metrics, seconds, model.n_parameters, panels_digest(self.panels))

    def _search(self, steps: SearchSteps) -> tuple[CopyingModel, dict[str, float]]:
        # The search's windows are freed on return: validation cuts others.
        search = RateSearch(self._references, self.config, k=self._k, threads=self._threads, listener=steps)
        return search.search()

    def _validated(self, model: CopyingModel) -> dict[str, float]:
        """Figures on the validation samples: of every other window by the masked protocol, of all as by an array."""
        config, masked, array = self.config, Scores(), Scores()
        self.progress.begin("validation", len(self._references))
        for reference in self._references:
            panel = reference.panel
            windows = hmm_windows(panel, config.encode.copy_window, config.encode.copy_span_cm)
            predict = held_out_predictor(model, reference, self._k, threads=self._threads)
            haplotypes, seed = panel.some_validation_haplotypes(MAX_VALIDATED), config.train.seed
            some = [window for window in windows if window.index % 2 == 0]
            masked_sites = masked_typing(reference, config.evaluate, seed)
            masked.merge(score_windows(predict, panel, some, haplotypes, masked_sites))
            array_sites = array_typing(reference, config.masks, seed)
            array.merge(score_windows(predict, panel, windows, haplotypes, array_sites))
            self.progress.step("")
        return figures(masked, array)


class SearchSteps:
    """``SearchListener`` that logs the steps of a search and keeps them in ``path``, for a search that continues it."""

    def __init__(self, path: Path, tracker: Tracker, progress: FitProgress) -> None:
        self._path = path
        self._tracker = tracker
        self._progress = progress
        kept: dict[str, Any] = {"run_id": "", "seconds": 0.0, "losses": {}}
        if path.is_file():
            kept = json.loads(path.read_text())
        self.run_id: str = kept["run_id"]
        self.seconds_before: float = kept["seconds"]  # spent before an interruption
        self._losses: dict[str, list[tuple[float, float, float]]] = kept["losses"]
        self.count = sum(map(len, self._losses.values()))
        self._started = self._last = time.perf_counter()

    def started(self, run_id: str) -> None:
        self.run_id = run_id

    def begin(self, stage: str) -> None:
        self._losses.setdefault(stage, [])
        number = list(STAGES).index(stage) + 1
        self._progress.begin(f"{number}/{len(STAGES)} {STAGES[stage]}", None)

    def known(self, stage: str) -> Mapping[Rates, float]:
        return {Rates(rate, mismatch): loss for rate, mismatch, loss in self._losses.get(stage, [])}

    def tried(self, stage: str, rates: Rates, loss: float) -> None:
        now = time.perf_counter()
        figures = {
            "search/loss": loss,
            "search/switches_per_cm": rates.switches_per_cm,
            "search/mismatch": rates.mismatch,
            "search/stage": float(list(STAGES).index(stage) + 1),
            "search/step_seconds": now - self._last,
        }
        self._last = now
        self._losses[stage].append((rates.switches_per_cm, rates.mismatch, loss))
        seconds = self.seconds_before + now - self._started
        # Kept before it is logged: if logging fails, the loss need not be computed again.
        write_json(self._path, {"run_id": self.run_id, "seconds": seconds, "losses": self._losses})
        self._tracker.log_metrics(figures, self.count)
        self.count += 1
        self._progress.step(f"{rates.switches_per_cm:.4g} switches/cM  mismatch {rates.mismatch:.2g}  loss {loss:.5f}")

    def clear(self) -> None:
        """Removes the kept steps, because a finished search must not be continued."""
        shutil.rmtree(self._path.parent, ignore_errors=True)
