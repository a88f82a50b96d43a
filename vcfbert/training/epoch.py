"""Trains one epoch: plans its batches, computes losses and takes optimiser steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vcfbert.config import Config
from vcfbert.errors import InputError
from vcfbert.genotypes.masks import curriculum_rate
from vcfbert.model.losses import allele_loss, genotype_loss, site_loss_weights
from vcfbert.training.assembly import Assembly
from vcfbert.training.data import Example, Step, plan_epoch, shard
from vcfbert.training.device import mean_over_ranks
from vcfbert.training.epoch_meter import EpochMeter
from vcfbert.training.failures import check_finite
from vcfbert.training.host_memory import trim_memory
from vcfbert.training.optimizer import learning_rate
from vcfbert.training.progress import FitProgress
from vcfbert.training.run_state import RunState

TRIM_EVERY = 32  # batches between returns of freed memory to the system


class EpochTrainer:
    """Trains the model one epoch at a time. Each rank trains on its own part of the batches."""

    def __init__(self, parts: Assembly, config: Config, progress: FitProgress) -> None:
        self.parts = parts
        self.config = config
        self.progress = progress
        self.batches_per_epoch = len(self.plan(0))  # of this rank

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run, if it does not stop early."""
        train = self.config.train
        return math.ceil(self.batches_per_epoch / train.accumulate) * train.epochs

    def plan(self, epoch: int) -> list[Step]:
        """This rank's batches of ``epoch`` (from 0), in order."""
        fabric, data = self.parts.fabric, self.parts.data
        return shard(plan_epoch(data.n_samples, self.config.train, epoch), fabric.global_rank, fabric.world_size)

    def train(self, epoch: int, run: RunState) -> dict[str, float]:
        """Trains ``epoch`` (from 0), counts its optimiser steps in ``run.step`` and returns the figures to log.

        Raises VcfbertError('diverged') and InputError('too_few_batches').
        """
        config, data, fabric = self.config.train, self.parts.data, self.parts.fabric
        # Dropout alone uses this generator. Seeded by epoch, it gives a resumed run the same values.
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        steps = self.plan(epoch)
        if not steps:  # every rank gets equally many, so all end here together
            raise InputError(
                "too_few_batches",
                f"an epoch has fewer batches than the {fabric.world_size} training processes",
                hint="lower train.batch_size or --devices",
            )
        self.progress.begin(f"epoch {epoch + 1}/{config.epochs}", len(steps))
        self.parts.wrapped.train()
        meter = EpochMeter()
        examples = data.examples(steps, epoch, self.parts.k)
        for number, example in enumerate(examples, start=1):
            last = number % config.accumulate == 0 or number == len(steps)
            group_start = (number - 1) // config.accumulate * config.accumulate
            group = min(config.accumulate, len(steps) - group_start)  # an epoch's last group may be smaller
            with fabric.no_backward_sync(self.parts.wrapped, enabled=not last):
                loss, probability = self.loss(example)
                fabric.backward(loss / group)
            if last:
                self.step(run)
            value = float(loss.detach())
            check_finite(value, f"epoch {epoch + 1}, batch {number}")
            meter.update(value, probability, example, data.maf(steps[number - 1]))
            if number % TRIM_EVERY == 0:
                trim_memory()
            meter.tick()
            self.progress.step(f"loss {meter.loss:.4f}  F1 {meter.f1.f1:.3f}  {meter.mean_ms:.0f} ms/batch")
        return self._metrics(epoch, steps, meter)

    def _metrics(self, epoch: int, steps: list[Step], meter: EpochMeter) -> dict[str, float]:
        seconds, fabric = meter.seconds, self.parts.fabric
        return {
            "train/loss": mean_over_ranks(fabric, meter.loss),
            "train/f1": mean_over_ranks(fabric, meter.f1.f1),
            "train/rare_f1": mean_over_ranks(fabric, meter.f1.rare_f1),
            "mask_rate": curriculum_rate(epoch, self.config.train.epochs, self.config.masks),
            "lr": self.parts.optimizer.param_groups[0]["lr"],
            "ms_per_batch": meter.median_ms,
            "samples_per_s": sum(len(step.samples) for step in steps) * fabric.world_size / seconds,
        }

    def loss(self, example: Example) -> tuple[Tensor, Any]:
        """The loss to minimise, a scalar with gradient, and the ALT probabilities float32 [b, 2, l] in numpy."""
        config = self.config.train
        output = self.parts.wrapped(example.batch)
        af = example.batch.sites.af
        weight = site_loss_weights(torch.minimum(af, 1.0 - af), config.rare_weight) * example.masked
        gamma = config.focal_gamma if config.loss == "focal" else 0.0
        loss = allele_loss(output.logit, example.alleles, weight, gamma=gamma)
        loss = loss + config.genotype_weight * genotype_loss(output.genotype, example.alleles.sum(dim=1), weight)
        return loss, output.logit.detach().sigmoid().float().cpu().numpy()

    def step(self, run: RunState) -> None:
        """One optimiser step with the gradients accumulated so far, clipped to ``train.clip``."""
        optimizer, train = self.parts.optimizer, self.config.train
        rate = learning_rate(run.step, self.total_steps, peak=train.lr, warmup_steps=train.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        self.parts.fabric.clip_gradients(
            self.parts.wrapped, optimizer, max_norm=self.config.train.clip, error_if_nonfinite=False
        )
        optimizer.step()
        optimizer.zero_grad()
        run.step += 1
