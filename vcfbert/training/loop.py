"""The trainer: one loop for all variants, on CPU, one GPU or several (Lightning Fabric)."""

from __future__ import annotations

import dataclasses
import math
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

from vcfbert.bundle import save_bundle
from vcfbert.config import Config, TrainConfig
from vcfbert.errors import VcfbertError
from vcfbert.genotypes.encoding import Encoding, windows_of
from vcfbert.genotypes.masks import curriculum_rate
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import panels_digest
from vcfbert.genotypes.windows import Window
from vcfbert.metrics.accuracy import F1Counter
from vcfbert.model.base import Variant
from vcfbert.model.losses import allele_loss, genotype_loss, site_loss_weights
from vcfbert.model.v18 import V18
from vcfbert.model.v19 import V19
from vcfbert.model.variants import create
from vcfbert.retrieval.base import KeyIndex, Retriever
from vcfbert.retrieval.context import distance_from
from vcfbert.retrieval.embedding import EmbeddingRetriever
from vcfbert.retrieval.refresh import Probe, attach_retriever, build_index, joint_report, refresh
from vcfbert.tracker import Tracker
from vcfbert.training.checkpoint import Checkpoints, State
from vcfbert.training.copying_start import CopyingStart
from vcfbert.training.data import (
    Example,
    TrainingData,
    TrainingPanel,
    data_digest,
    plan_copying_epoch,
    plan_epoch,
    shard,
)
from vcfbert.training.host_memory import memory_errors, trim_memory
from vcfbert.training.metrics_csv import MetricsCsv
from vcfbert.training.optimizer import learning_rate, optimizer_of
from vcfbert.training.progress import FitProgress, SilentProgress
from vcfbert.training.validation import Scores, TypedSites, array_typing, masked_typing, score_windows

PROBE_WINDOWS = 4  # windows on which refreshes are compared
PROBE_K = 8
MAX_VALIDATED = 200  # samples: of a large panel's more would take longer than its training, and tell no more
DENSEST_COPIED = 0.05  # typed density of an array beyond which copying is not trained
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


@dataclass
class _Run:
    """Everything that a resumed run must find as it was."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimiser steps taken
    best_loss: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    waited: int = 0  # epochs since the best one
    refreshed: int = 0  # epoch of the last refresh
    version: int = 0  # of the index
    seconds: float = 0.0  # spent so far, all sessions
    run_id: str = ""


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
        self.fabric = _fabric(config.train, accelerator, devices)
        self.fabric.launch()
        self.progress = progress if progress is not None and self.fabric.is_global_zero else SilentProgress()
        memories = [ReferenceSubset(panel, panel.memory_haplotypes) for panel in panels]
        self.raw: Variant = create(variant, config.model)
        device, masks = self.fabric.device, config.masks
        if self.raw.copies:
            # Of all masks a sparse array's alone: where more is shown there is less to learn, at a higher cost.
            low, high = masks.array_density
            density = (low, max(low, min(high, DENSEST_COPIED)))
            masks = dataclasses.replace(masks, array_share=1.0, array_density=density)
            windows = [windows_of(panel, config.encode, copies=True) for panel in panels]
            split = [TrainingPanel(m, w, None, masks, device) for m, w in zip(memories, windows, strict=True)]
        else:
            split = [TrainingPanel(m, e.windows, e, masks, device) for m, e in zip(memories, encodings, strict=True)]
        self.k = min(config.retrieval.k[variant], *(len(memory) - 2 for memory in memories))
        self.optimizer = optimizer_of(self.raw, config.train)
        self.model: Any
        self.model, self.optimizer = self.fabric.setup(self._compiled(), self.optimizer)
        backend = config.retrieval.backend
        own = [
            attach_retriever(
                self.raw,
                indexes[i]
                if indexes
                else build_index(part.memory, torch.ones_like(part.features[:, 0]), backend=backend, device=device),
                part.memory,
                part.features,
                update=True,
            )
            for i, part in enumerate(split)
        ]
        self.data = TrainingData(split, retrievers or own, masks, config.train)
        self.start = CopyingStart(self.raw, self.data, k=self.k) if isinstance(self.raw, V19) else None
        self.found: dict[str, float] = {}  # by its search, logged with the first epoch
        self.plan_length = len(self._plan(0))
        self.run = _Run()

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
        params = {**self.config.as_dict(), "variant": self.raw.name, "parameters": self.parameters}
        all_tags = {"variant": self.raw.name, **{f"data.{k}": v for k, v in data.items()}, **tags}
        # Every rank trains, the first alone records.
        recording = (
            tracker.start(self.raw.name, params, all_tags, run_id=self.run.run_id or None)
            if self.fabric.is_global_zero
            else nullcontext("")
        )
        with (
            recording as run_id,
            memory_errors(self.config.train),
        ):
            self.run.run_id = run_id
            table = MetricsCsv(metrics_csv, resume=resumed is not None)
            if self.start is not None and resumed is None:
                self._search_start(self.start)
                # Untrained it is the textbook's model: training is kept only where it is better.
                self._keep_if_best(self._validate(), store)
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

    def _search_start(self, start: CopyingStart) -> None:
        self.found = start.search()
        shown = ", ".join(f"{name.removeprefix('start/')} {value:.3g}" for name, value in self.found.items())
        self.progress.message(f"start: {shown}")

    def _plan(self, epoch: int) -> list[Any]:
        plan = plan_copying_epoch if self.raw.copies else plan_epoch
        steps = plan(self.data.n_samples, self.config.train, epoch)
        return shard(steps, self.fabric.global_rank, self.fabric.world_size)

    def _epoch(self, tracker: Tracker, store: Checkpoints, table: MetricsCsv) -> dict[str, float]:
        epoch, started = self.run.epoch, time.perf_counter()
        metrics = self._refresh_if_due(epoch) | self.found
        self.found = {}
        metrics |= self._train(epoch)
        metrics |= self._validate()
        seconds = time.perf_counter() - started
        if "refresh/seconds" in metrics:
            metrics["refresh/share_of_epoch"] = metrics["refresh/seconds"] / seconds
        metrics["epoch_seconds"] = seconds
        metrics |= self._memory_use()
        self.run.seconds += seconds
        self.run.epoch += 1
        self._keep_if_best(metrics, store)
        if self.fabric.is_global_zero:
            tracker.log_metrics(metrics, epoch)
            table.append(epoch, metrics)
            store.save_last(self._state())
        self.fabric.barrier()
        shown = {"train": "train/loss", "val": "val/loss", "F1": "val/f1", "rare F1": "val/rare_f1", "r2": "val/r2/all"}
        figures = "  ".join(f"{label} {metrics[name]:.4f}" for label, name in shown.items() if name in metrics)
        self.progress.message(f"epoch {epoch + 1}/{self.config.train.epochs}  {figures}  {seconds:.0f} s")
        return metrics

    def _keep_if_best(self, metrics: dict[str, float], store: Checkpoints) -> None:
        # Where there is one, that of genotypes as targets come decides: the panel's own phase has fewer errors.
        loss = metrics.get("val/genotype_loss", metrics["val/loss"])
        if loss < self.run.best_loss:
            self.run.best_loss, self.run.best_metrics, self.run.waited = loss, metrics, 0
            if self.fabric.is_global_zero:
                store.save_best(self.raw.state_dict())
        else:
            # What the best lacks, such as the cost of a batch where it is untrained, is of the latest epoch.
            self.run.best_metrics = metrics | self.run.best_metrics
            self.run.waited += 1

    def _refresh_if_due(self, epoch: int) -> dict[str, float]:
        every = self.config.retrieval.refresh_every
        metrics: dict[str, float] = {}
        if isinstance(self.raw, V18) and self._learned() and epoch and every and epoch % every == 0:
            k, version = min(PROBE_K, *(len(part.memory) - 2 for part in self.data.panels)), self.run.version + 1
            ranks = {"rank": self.fabric.global_rank, "world": self.fabric.world_size}
            reports = [
                refresh(self.raw, retriever, part.features, self._probes(part), k=k, version=version, **ranks)
                for retriever, part in zip(self._learned(), self.data.panels, strict=True)
            ]
            report = joint_report(reports)
            self.run.version, self.run.refreshed = report.version, epoch
            metrics = {
                "refresh/seconds": report.seconds,
                "refresh/drift": report.drift,
                "refresh/overlap": report.overlap,
            }
        return {"index/version": self.run.version, "index/age": epoch - self.run.refreshed, **metrics}

    def _learned(self) -> list[EmbeddingRetriever]:
        return [retriever for retriever in self.data.retrievers if isinstance(retriever, EmbeddingRetriever)]

    def _probes(self, split: TrainingPanel) -> list[Probe]:
        """Validation haplotypes at array-like sites of a few windows, always the same."""
        panel = split.memory.panel
        typed = array_typing(split.memory, self.config.masks, self.config.train.seed)
        probes = []
        for window in split.windows[:: max(len(split.windows) // PROBE_WINDOWS, 1)]:
            key = typed(window).nonzero()[0] + window.span[0]
            distance = torch.from_numpy(distance_from(window, key, panel.cm)).float()
            queries = torch.from_numpy(panel.alleles(key, panel.some_validation_haplotypes(MAX_VALIDATED)))
            device = self.fabric.device
            probes.append(Probe(torch.from_numpy(key).to(device), distance.to(device), queries.to(device)))
        return probes

    def _train(self, epoch: int) -> dict[str, float]:
        config = self.config.train
        # Dropout alone draws from this generator; seeded by epoch, so a resumed run draws the same.
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        steps = self._plan(epoch)
        self.progress.epoch(epoch, config.epochs, len(steps))
        self.model.train()
        f1, total, started = F1Counter(), 0.0, time.perf_counter()
        durations, before = [], started
        switches = 0.0 if self.start is None else self.start.switches_per_cm
        examples = self.data.examples(steps, epoch, self.k, noisy=self.raw.copies, switches_per_cm=switches)
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
            total += value
            f1.update(
                example.alleles.cpu().numpy(),
                probability,
                self.data.maf(steps[number - 1]),
                example.masked.cpu().numpy(),
            )
            if number % TRIM_EVERY == 0:
                trim_memory()
            durations.append(time.perf_counter() - before)
            before += durations[-1]
            self.progress.step(total / number, f1.f1, statistics.fmean(durations) * 1e3)
        seconds = time.perf_counter() - started
        return {
            "train/loss": self._mean(total / len(steps)),
            "train/f1": self._mean(f1.f1),
            "train/rare_f1": self._mean(f1.rare_f1),
            "mask_rate": curriculum_rate(epoch, config.epochs, self.config.masks),
            "lr": self.optimizer.param_groups[0]["lr"],
            "ms_per_batch": statistics.median(durations) * 1e3,
            "samples_per_s": sum(len(s.samples) for s in steps) * self.fabric.world_size / seconds,
        }

    def _loss(self, example: Example) -> tuple[Tensor, Any]:
        config = self.config.train
        output = self.model(example.batch)
        af = example.batch.sites.af
        weight = site_loss_weights(torch.minimum(af, 1.0 - af), config.rare_weight) * example.masked
        if self.raw.copies:
            # An allele that no other sample carries would not be in the panel, and cannot be copied.
            carriers = (af * example.n_haplotypes).round()
            weight = weight * (example.alleles.sum(dim=1, keepdim=True) < carriers)  # [b, 1, l]
        gamma = config.focal_gamma if config.loss == "focal" else 0.0
        loss = allele_loss(output.logit, example.alleles, weight, gamma=gamma)
        loss = loss + config.genotype_weight * genotype_loss(
            output.genotype, example.alleles.sum(dim=1), weight.squeeze(1) if weight.ndim == 3 else weight
        )
        return loss, output.logit.detach().sigmoid().float().cpu().numpy()

    def _step(self) -> None:
        config = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.run.step, self.total_steps, config, copies=self.raw.copies)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.run.step += 1

    @property
    def total_steps(self) -> int:
        return math.ceil(self.plan_length / self.config.train.accumulate) * self.config.train.epochs

    def _validate(self) -> dict[str, float]:
        """F1 by the masked protocol on every other window, dosage r2 by an array's typing on the rest."""
        seed = self.config.train.seed
        masked, array, both = Scores(), Scores(), Scores()
        for panel, retriever in zip(self.data.panels, self.data.retrievers, strict=True):
            own = panel.windows[self.fabric.global_rank :: self.fabric.world_size]
            even, odd = ([w for w in own if w.index % 2 == parity] for parity in (0, 1))
            masked.merge(self._scores(panel, retriever, even, masked_typing(panel.memory, self.config.evaluate, seed)))
            # The wide windows of a copying variant are few: one may be all there is.
            rest = own if self.raw.copies else odd
            array.merge(self._scores(panel, retriever, rest, array_typing(panel.memory, self.config.masks, seed)))
        for part in self._gathered(masked):
            both.f1.merge(part.f1)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        for part in self._gathered(array):
            both.r2.merge(part.r2)
            both.loss, both.count = both.loss + part.loss, both.count + part.count
        _check_finite(both.loss, f"validation after epoch {self.run.epoch + 1}")
        r2 = {f"val/r2/{name.rstrip('%')}": value for name, value in both.r2.values().items()}
        if self.start is not None:
            r2["val/genotype_loss"] = self.start.loss()
        return {"val/loss": both.mean_loss, **{f"val/{n}": v for n, v in both.f1.values().items()}, **r2}

    def _scores(self, panel: TrainingPanel, retriever: Retriever, windows: list[Window], typed: TypedSites) -> Scores:
        return score_windows(
            self.raw,
            retriever,
            panel.memory,
            panel.features,
            windows,
            panel.memory.panel.some_validation_haplotypes(MAX_VALIDATED),
            typed,
            k=self.k,
            batch_size=self.config.evaluate.batch_size,
            min_maf=0.0,
        )

    def _gathered(self, scores: Scores) -> list[Scores]:
        if self.fabric.world_size == 1:
            return [scores]
        parts: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(parts, scores)
        return parts

    def _mean(self, value: float) -> float:
        reduced = self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="mean")
        return float(reduced)  # type: ignore[arg-type]

    def _memory_use(self) -> dict[str, float]:
        use = {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        if self.fabric.device.type == "cuda":
            use["peak_cuda_mb"] = torch.cuda.max_memory_allocated(self.fabric.device) / 2**20
        return use

    def _compiled(self) -> Any:
        if self.config.train.compile and self.fabric.device.type == "cuda":
            return torch.compile(self.raw)
        return self.raw

    def _state(self) -> State:
        snapshots = [
            {"weights": one.index.weights, "decay": one.decay, "temperature": one.temperature}
            for one in self._learned()
        ]
        return {
            "model": self.raw.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "retrievers": snapshots,
            "run": dict(vars(self.run)),
        }

    def _restore(self, state: State) -> None:
        self.raw.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.run = _Run(**state["run"])
        for retriever, snapshot in zip(self._learned(), state["retrievers"], strict=True):
            retriever.index.refresh(snapshot["weights"])
            retriever.decay, retriever.temperature = snapshot["decay"], snapshot["temperature"]

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


def _fabric(config: TrainConfig, accelerator: str, devices: int) -> Fabric:
    cuda = accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if cuda else "32-true"
    strategy = "ddp" if devices > 1 else "auto"
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=devices, strategy=strategy, precision=precision)
