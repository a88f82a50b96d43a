"""The trainer of V17 and V18, on CPU, one GPU or several (Lightning Fabric)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vcfbert.bundle.network import save_network
from vcfbert.config import Config
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import data_digest, panels_digest
from vcfbert.retrieval.base import KeyIndex, Retriever
from vcfbert.training.assembly import assemble
from vcfbert.training.checkpoint import Checkpoints, State
from vcfbert.training.device import memory_use
from vcfbert.training.epoch import EpochTrainer
from vcfbert.training.failures import memory_errors
from vcfbert.training.progress import FitProgress, SilentProgress, epoch_message
from vcfbert.training.recorder import Recorder
from vcfbert.training.result import AfterEpoch, FitOutput, FitResult
from vcfbert.training.run_state import RunState, restore, snapshot
from vcfbert.training.validator import Validator


class Trainer:
    """Fits one variant to the training splits of all panels together, and writes a bundle."""

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
        """``encodings``: one per panel. ``indexes``: initial indexes, one per panel, if they were built before.
        ``retrievers``: one per panel, used in training in place of the variant's own. Studies set them; a bundle always
        has the variant's own. ``devices``: processes, started by ``torchrun``.
        """
        self.config = config
        self.panels = panels
        self.parts = assemble(
            panels,
            encodings,
            config,
            variant,
            accelerator=accelerator,
            devices=devices,
            indexes=indexes,
            retrievers=retrievers,
        )
        shown = progress if self.parts.fabric.is_global_zero else None
        self.progress: FitProgress = shown or SilentProgress()
        self.epoch_trainer = EpochTrainer(self.parts, config, self.progress)
        self.validator = Validator(self.parts, config)
        self.run = RunState()

    def fit(self, output: FitOutput, *, after_epoch: AfterEpoch | None = None) -> FitResult:
        """Trains, from the last checkpoint if there is one, and writes the best epoch's bundle.

        Raises ResourceError('out_of_memory') and VcfbertError('diverged').
        """
        train, name = self.config.train, self.parts.model.name
        digest = self.config.training_digest(name, data_digest(self.panels))
        store = Checkpoints(output.checkpoints / f"{name}-{digest}")
        recorder = Recorder(output.tracker, store, output.metrics_csv, writes=self.parts.fabric.is_global_zero)
        last = store.last()
        if last is not None:
            self.restore(last)
            self.progress.message(f"resuming after epoch {self.run.epoch} from {store.folder}")
        params = {**self.config.as_dict(), "variant": name, "parameters": self.parameters}
        tags, resume = output.run_tags(name), last is not None
        recording = recorder.recording(name, params, tags, run_id=self.run.run_id, resume=resume)
        with recording as run_id, memory_errors(train):
            self.run.run_id = run_id
            while self.run.epoch < train.epochs and self.run.waited < train.patience:
                metrics = self._epoch(recorder)
                if after_epoch is not None and not after_epoch(self.run.epoch - 1, metrics):
                    break
            if output.bundle is not None:
                self._write(output.bundle, store.best(), output.data)
            uri = recorder.finish(output.bundle, name)
        digest, rank = panels_digest(self.panels), self.parts.fabric.global_rank
        return FitResult(run_id, uri, self.run.best_metrics, self.run.seconds, self.parameters, digest, rank)

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(p.numel() for p in self.parts.model.parameters())

    def refresh(self, epoch: int) -> dict[str, float]:
        """Refreshes learned retrievers if that is due before ``epoch``, and returns the index's figures to log."""
        fabric = self.parts.fabric
        refresher, version = self.parts.refresher, self.run.version + 1
        report = None
        if refresher is not None:
            report = refresher.refresh(epoch, version, rank=fabric.global_rank, world=fabric.world_size)
        return self.run.index_metrics(epoch, report)

    def state(self) -> State:
        """What a resumed run needs, for ``restore``."""
        return snapshot(self.parts.model, self.parts.optimizer, self.parts.data.retrievers, self.run)

    def restore(self, state: State) -> None:
        """Continues from ``state``."""
        self.run = restore(state, self.parts.model, self.parts.optimizer, self.parts.data.retrievers)

    def _epoch(self, recorder: Recorder) -> dict[str, float]:
        epoch, started = self.run.epoch, time.perf_counter()
        metrics = self.refresh(epoch)
        metrics |= self.epoch_trainer.train(epoch, self.run)
        metrics |= self.validator.validate(epoch)
        seconds = time.perf_counter() - started
        if "refresh/seconds" in metrics:
            metrics["refresh/share_of_epoch"] = metrics["refresh/seconds"] / seconds
        metrics["epoch_seconds"] = seconds
        metrics |= memory_use(self.parts.fabric)
        self.run.seconds += seconds
        self.run.epoch += 1
        self._keep_if_best(metrics, recorder)
        recorder.epoch(epoch, metrics, self.state())
        self.parts.fabric.barrier()
        self.progress.message(epoch_message(epoch, self.config.train.epochs, metrics, seconds))
        return metrics

    def _keep_if_best(self, metrics: dict[str, float], recorder: Recorder) -> None:
        if self.run.take(metrics):
            recorder.best(self.parts.model.state_dict())

    def _write(self, out: Path, best: State | None, data: Mapping[str, str]) -> None:
        if best is not None:
            self.parts.model.load_state_dict(best)
        if self.parts.fabric.is_global_zero:
            save_network(out, self.parts.model, self.panels, self.config, metrics=self.run.best_metrics, data=data)
        self.parts.fabric.barrier()
