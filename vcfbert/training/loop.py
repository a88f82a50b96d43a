"""The trainer: one loop for all variants, on CPU, one GPU or several (Lightning Fabric).

What differs between variants is in their recipes (``training/recipe.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vcfbert.bundle import save_bundle
from vcfbert.config import Config
from vcfbert.errors import VcfbertError
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.masks import curriculum_rate
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import panels_digest
from vcfbert.model.base import Variant
from vcfbert.model.losses import allele_loss, genotype_loss, site_loss_weights
from vcfbert.model.variants import create
from vcfbert.retrieval.base import KeyIndex, Retriever, usable_k
from vcfbert.retrieval.refresh import attach_retriever, build_index
from vcfbert.tracker import Tracker
from vcfbert.training.checkpoint import Checkpoints, State
from vcfbert.training.data import Example, Step, TrainingData, TrainingPanel, data_digest, shard
from vcfbert.training.device import fabric_of, mean_over_ranks, memory_use
from vcfbert.training.epoch_meter import EpochMeter
from vcfbert.training.host_memory import memory_errors, trim_memory
from vcfbert.training.metrics_csv import MetricsCsv
from vcfbert.training.optimizer import optimizer_of
from vcfbert.training.progress import FitProgress, SilentProgress, epoch_message
from vcfbert.training.recipes import recipe_of
from vcfbert.training.run_state import RunState, restore, snapshot
from vcfbert.training.validator import Validator

TRIM_EVERY = 32  # batches between returns of freed memory to the system


# Told each epoch (from 0) and its figures, after its checkpoint; False ends the training there, as if it were the last.
# Of several ranks all are asked and must be answered alike.
AfterEpoch = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True)
class FitResult:
    run_id: str
    model_uri: str
    metrics: dict[str, float]  # of the best epoch
    seconds: float
    parameters: int
    data_digest: str  # of the panel that the figures were measured on


class Trainer:
    """Fits one variant on the training split of panels, all chromosomes together, and writes a bundle."""

    def __init__(
        self,
        panels: Sequence[Panel],
        encodings: Sequence[Encoding],
        config: Config,
        variant: str,
        *,
        accelerator: str = "auto",
        devices: int = 1,
        indexes: Sequence[KeyIndex] | None = None,
        retrievers: Sequence[Retriever] | None = None,
        progress: FitProgress | None = None,
    ) -> None:
        """``indexes``: the initial ones, if they were built before; ``retrievers``: over the training splits, in place
        of the variant's own (for studies: a bundle has the variant's); ``devices``: processes, by ``torchrun``."""
        self.config = config
        self.panels = panels
        self.fabric = fabric_of(config.train, accelerator, devices)
        self.fabric.launch()
        self.progress = progress if progress is not None and self.fabric.is_global_zero else SilentProgress()
        self.raw: Variant = create(variant, config.model)
        self.recipe = recipe_of(self.raw, config)
        split = [
            self.recipe.training_panel(ReferenceSubset(p, p.training_haplotypes), encoding, self.fabric.device)
            for p, encoding in zip(panels, encodings, strict=True)
        ]
        # A query never retrieves the two haplotypes of its own sample.
        self.k = usable_k(config.retrieval.k[variant], [len(part.memory) for part in split], n_excluded=2)
        self.optimizer = optimizer_of(self.raw, config.train)
        self.model: Any
        self.model, self.optimizer = self.fabric.setup(self._compiled(), self.optimizer)
        own = [self._retriever(part, indexes[i] if indexes else None) for i, part in enumerate(split)]
        self.data = TrainingData(split, retrievers or own, split[0].masks, config.train)
        self.recipe.attach(self.data, self.k)
        self.validator = Validator(self.fabric, self.raw, self.recipe, self.data, config, self.k)
        self.found: Mapping[str, float] = {}  # by the recipe's start, logged with the first epoch
        self.plan_length = len(self._plan(0))
        self.run = RunState()

    def fit(
        self,
        out: Path | None,
        *,
        tracker: Tracker,
        checkpoints: Path,
        metrics_csv: Path,
        tags: Mapping[str, str],
        data: Mapping[str, str],
        after_epoch: AfterEpoch | None = None,
    ) -> FitResult:
        """Trains, from the last checkpoint if there is one, and writes the best epoch's bundle to ``out`` (None: its
        figures are all that is wanted).

        ``tags`` and ``data`` (digests of the inputs) are recorded. Raises ResourceError('out_of_memory') and
        VcfbertError('diverged').
        """
        digest = self.config.training_digest(self.raw.name, data_digest(self.panels))
        store = Checkpoints(checkpoints / f"{self.raw.name}-{digest}")
        resumed = store.last()
        if resumed is not None:
            self._restore(resumed)
            self.progress.message(f"resuming after epoch {self.run.epoch} from {store.folder}")
        with self._recording(tracker, tags, data) as run_id, memory_errors(self.config.train):
            self.run.run_id = run_id
            table = MetricsCsv(metrics_csv, resume=resumed is not None)
            if resumed is None:
                self._start(store)
            while self.run.epoch < self.config.train.epochs and self.run.waited < self.config.train.patience:
                metrics = self._epoch(tracker, store, table)
                if after_epoch is not None and not after_epoch(self.run.epoch - 1, metrics):
                    break
            if out is not None:
                self._write(out, store, data)
            uri = ""
            if self.fabric.is_global_zero:
                uri = "" if out is None else tracker.log_bundle(out, self.raw.name)
                tracker.log_artifact(metrics_csv)
                store.clear()
        return FitResult(
            run_id, uri, self.run.best_metrics, self.run.seconds, self.parameters, panels_digest(self.panels)
        )

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.raw.parameters())

    def _recording(
        self, tracker: Tracker, tags: Mapping[str, str], data: Mapping[str, str]
    ) -> AbstractContextManager[str]:
        """Every rank trains; the first alone records."""
        if not self.fabric.is_global_zero:
            return nullcontext("")
        params = {**self.config.as_dict(), "variant": self.raw.name, "parameters": self.parameters}
        all_tags = {"variant": self.raw.name, **{f"data.{k}": v for k, v in data.items()}, **tags}
        return tracker.start(self.raw.name, params, all_tags, run_id=self.run.run_id or None)

    def _start(self, store: Checkpoints) -> None:
        found = self.recipe.start()
        if found is None:
            return
        self.found = found
        shown = ", ".join(f"{name.removeprefix('start/')} {value:.3g}" for name, value in found.items())
        self.progress.message(f"start: {shown}")
        # The start is a working model: training is kept only where it is better.
        self._keep_if_best(self._validate(), store)

    def _plan(self, epoch: int) -> list[Step]:
        steps = self.recipe.plan(self.data.n_samples, epoch)
        return shard(steps, self.fabric.global_rank, self.fabric.world_size)

    def _epoch(self, tracker: Tracker, store: Checkpoints, table: MetricsCsv) -> dict[str, float]:
        epoch, started = self.run.epoch, time.perf_counter()
        metrics = self._refresh_if_due(epoch) | dict(self.found)
        self.found = {}
        metrics |= self._train(epoch)
        metrics |= self._validate()
        seconds = time.perf_counter() - started
        if "refresh/seconds" in metrics:
            metrics["refresh/share_of_epoch"] = metrics["refresh/seconds"] / seconds
        metrics["epoch_seconds"] = seconds
        metrics |= memory_use(self.fabric)
        self.run.seconds += seconds
        self.run.epoch += 1
        self._keep_if_best(metrics, store)
        if self.fabric.is_global_zero:
            tracker.log_metrics(metrics, epoch)
            table.append(epoch, metrics)
            store.save_last(self._state())
        self.fabric.barrier()
        self.progress.message(epoch_message(epoch, self.config.train.epochs, metrics, seconds))
        return metrics

    def _keep_if_best(self, metrics: dict[str, float], store: Checkpoints) -> None:
        if self.run.take(metrics) and self.fabric.is_global_zero:
            store.save_best(self.raw.state_dict())

    def _refresh_if_due(self, epoch: int) -> dict[str, float]:
        ranks = {"rank": self.fabric.global_rank, "world": self.fabric.world_size}
        report = self.recipe.refresh(epoch, self.run.version + 1, **ranks)
        metrics: dict[str, float] = {}
        if report is not None:
            self.run.version, self.run.refreshed = report.version, epoch
            metrics = {
                "refresh/seconds": report.seconds,
                "refresh/drift": report.drift,
                "refresh/overlap": report.overlap,
            }
        return {"index/version": self.run.version, "index/age": epoch - self.run.refreshed, **metrics}

    def _train(self, epoch: int) -> dict[str, float]:
        config = self.config.train
        # Dropout alone draws from this generator; seeded by epoch, so a resumed run draws the same.
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        steps = self._plan(epoch)
        self.progress.epoch(epoch, config.epochs, len(steps))
        self.model.train()
        meter = EpochMeter()
        examples = self.data.examples(steps, epoch, self.k, self.recipe.noise())
        for number, example in enumerate(examples, start=1):
            last = number % config.accumulate == 0 or number == len(steps)
            group_start = (number - 1) // config.accumulate * config.accumulate
            group = min(config.accumulate, len(steps) - group_start)  # an epoch's last group may be smaller
            with self.fabric.no_backward_sync(self.model, enabled=not last):
                loss, probability = self._loss(example)
                self.fabric.backward(loss / group)
            if last:
                self._step()
            value = float(loss.detach())
            _check_finite(value, f"epoch {epoch + 1}, batch {number}")
            meter.update(value, probability, example, self.data.maf(steps[number - 1]))
            if number % TRIM_EVERY == 0:
                trim_memory()
            meter.tick()
            self.progress.step(meter.loss, meter.f1.f1, meter.mean_ms)
        seconds = meter.seconds
        return {
            "train/loss": mean_over_ranks(self.fabric, meter.loss),
            "train/f1": mean_over_ranks(self.fabric, meter.f1.f1),
            "train/rare_f1": mean_over_ranks(self.fabric, meter.f1.rare_f1),
            "mask_rate": curriculum_rate(epoch, config.epochs, self.config.masks),
            "lr": self.optimizer.param_groups[0]["lr"],
            "ms_per_batch": meter.median_ms,
            "samples_per_s": sum(len(s.samples) for s in steps) * self.fabric.world_size / seconds,
        }

    def _loss(self, example: Example) -> tuple[Tensor, Any]:
        config = self.config.train
        output = self.model(example.batch)
        af = example.batch.sites.af
        weight = site_loss_weights(torch.minimum(af, 1.0 - af), config.rare_weight) * example.masked
        weight = self.recipe.loss_weight(weight, example)
        gamma = config.focal_gamma if config.loss == "focal" else 0.0
        loss = allele_loss(output.logit, example.alleles, weight, gamma=gamma)
        loss = loss + config.genotype_weight * genotype_loss(
            output.genotype, example.alleles.sum(dim=1), weight.squeeze(1) if weight.ndim == 3 else weight
        )
        return loss, output.logit.detach().sigmoid().float().cpu().numpy()

    def _step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate(self.run.step, self.total_steps)
        self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.config.train.clip, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.run.step += 1

    @property
    def total_steps(self) -> int:
        return math.ceil(self.plan_length / self.config.train.accumulate) * self.config.train.epochs

    def _validate(self) -> dict[str, float]:
        scores = self.validator.scores()
        _check_finite(scores.loss, f"validation after epoch {self.run.epoch + 1}")
        return self.validator.metrics(scores)

    def _retriever(self, part: TrainingPanel, index: KeyIndex | None) -> Retriever:
        """The variant's own, over ``index`` if it was built before."""
        if index is None:
            weights = torch.ones_like(part.features[:, 0])
            backend = self.config.retrieval.backend
            index = build_index(part.memory, weights, backend=backend, device=self.fabric.device)
        return attach_retriever(self.raw, index, part.memory, part.features, update=True)

    def _compiled(self) -> Any:
        if self.config.train.compile and self.fabric.device.type == "cuda":
            return torch.compile(self.raw)
        return self.raw

    def _state(self) -> State:
        return snapshot(self.raw, self.optimizer, self.data.retrievers, self.run)

    def _restore(self, state: State) -> None:
        self.run = restore(state, self.raw, self.optimizer, self.data.retrievers)

    def _write(self, out: Path, store: Checkpoints, data: Mapping[str, str]) -> None:
        best = store.best()
        if best is not None:
            self.raw.load_state_dict(best)
        if self.fabric.is_global_zero:
            save_bundle(out, self.raw, self.panels, self.config, metrics=self.run.best_metrics, data=data)
        self.fabric.barrier()


def _check_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise VcfbertError(
            "diverged",
            f"the loss became {loss} in {where}",
            hint="lower train.lr, or lengthen train.warmup_steps",
        )
