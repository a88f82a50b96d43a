from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks._random_retriever import RandomRetriever
from tests.helpers.tiny import MemoryTracker, target_of, tiny_config
from vcfbert.bundle.contents import Bundle
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import LoadedNetwork
from vcfbert.config import Config
from vcfbert.errors import InputError, ResourceError, VcfbertError
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.site_blocks import SiteBlocks
from vcfbert.imputation.imputer import Imputer
from vcfbert.model.base import Variant
from vcfbert.retrieval.embedding import EmbeddingRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex
from vcfbert.training.checkpoint import Checkpoints
from vcfbert.training.loop import Trainer
from vcfbert.training.optimizer import learning_rate
from vcfbert.training.result import FitOutput, FitResult
from vcfbert.training.run_state import RunState

# Each test trains a network: seconds of work.
pytestmark = pytest.mark.integration

EACH_EPOCH = {
    "train/loss",
    "train/f1",
    "train/rare_f1",
    "val/loss",
    "val/f1",
    "val/rare_f1",
    "val/r2/all",
    "val/r2/5-50",
    "mask_rate",
    "lr",
    "ms_per_batch",
    "samples_per_s",
    "epoch_seconds",
    "peak_rss_mb",
    "index/version",
    "index/age",
}
EACH_REFRESH = {"refresh/seconds", "refresh/drift", "refresh/overlap", "refresh/share_of_epoch"}


def trainer_of(panel: Panel, config: Config, variant: str = "v18") -> Trainer:
    return Trainer([panel], [encode(panel, config.encode)], config, variant, accelerator="cpu")


def fit(trainer: Trainer, folder: Path, *, tracker: MemoryTracker | None = None) -> tuple[FitResult, MemoryTracker]:
    tracker = tracker or MemoryTracker()
    output = FitOutput(
        folder / "model",
        tracker,
        checkpoints=folder / "checkpoints",
        metrics_csv=folder / "metrics.csv",
        tags={"source": "test"},
        data={"panel": "abc"},
    )
    return trainer.fit(output), tracker


def network_of(bundle: Bundle) -> Variant:
    assert isinstance(bundle.model, LoadedNetwork)
    return bundle.model.network


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_fit_lowers_loss_logs_and_writes_bundle(tiny_panel: Panel, tmp_path: Path, variant: str) -> None:
    config = tiny_config({"train": {"epochs": 3}, "masks": {"start": 0.5, "end": 0.5, "array_share": 0.0}})
    trainer = trainer_of(tiny_panel, config, variant)
    untrained = trainer.validator.validate(0)["val/loss"]
    result, tracker = fit(trainer, tmp_path)
    losses = [epoch["val/loss"] for epoch in tracker.epochs]
    assert len(losses) == 3
    assert losses[-1] < untrained
    for number, epoch in enumerate(tracker.epochs):
        refreshed = variant == "v18" and number > 0
        assert EACH_EPOCH | (EACH_REFRESH if refreshed else set()) <= set(epoch)
        assert refreshed or not EACH_REFRESH & set(epoch)
        assert all(math.isfinite(value) for value in epoch.values())
    best = min(tracker.epochs, key=lambda epoch: epoch["val/loss"])
    assert result.metrics == best
    assert tracker.tags == {"variant": variant, "data.panel": "abc", "source": "test"}
    assert tracker.bundles == [tmp_path / "model"]
    assert (result.run_id, result.model_uri) == ("run-1", f"models:/{variant}")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["val/loss"]) for row in rows] == pytest.approx([e["val/loss"] for e in tracker.epochs], rel=1e-4)
    bundle = load_bundle(tmp_path / "model")
    assert (bundle.variant, bundle.panels[0].digest) == (variant, tiny_panel.digest)
    assert bundle.manifest["metrics"] == best
    assert sum(p.numel() for p in network_of(bundle).parameters()) == result.parameters
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("every", "ages", "versions"),
    [(0, [0, 1, 2, 3], [0, 0, 0, 0]), (1, [0] * 4, [0, 1, 2, 3]), (2, [0, 1, 0, 1], [0, 0, 1, 1])],
)
def test_refresh_every_sets_index_age_and_version(
    tiny_panel: Panel, tmp_path: Path, every: int, ages: list[int], versions: list[int]
) -> None:
    config = tiny_config({"train": {"epochs": 4, "samples_per_epoch": 4}, "retrieval": {"refresh_every": every}})
    trainer = trainer_of(tiny_panel, config)
    initial = trainer.parts.data.retrievers[0].index.weights.clone()
    _, tracker = fit(trainer, tmp_path)
    assert [epoch["index/age"] for epoch in tracker.epochs] == ages
    assert [epoch["index/version"] for epoch in tracker.epochs] == versions
    assert torch.equal(trainer.parts.data.retrievers[0].index.weights, initial) is (every == 0)


def grouped_weights(panel: Panel, batch_size: int, accumulate: int, samples: int = 8) -> dict[str, torch.Tensor]:
    """The weights after two epochs over a panel of one window."""
    config = tiny_config(
        {
            "encode": {"window": 256},
            "train": {"batch_size": batch_size, "accumulate": accumulate, "samples_per_epoch": samples},
        }
    )
    trainer = trainer_of(panel, config)
    trainer.epoch_trainer.train(0, trainer.run)
    trainer.epoch_trainer.train(1, trainer.run)
    assert trainer.run.step == 2
    return trainer.parts.model.state_dict()


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_fit_with_k_zero_writes_usable_bundle(tiny_panel: Panel, tmp_path: Path, variant: str) -> None:
    config = tiny_config({"retrieval": {"k": {"v17": 0, "v18": 0, "v19": 12}}, "train": {"epochs": 2}})
    fit(trainer_of(tiny_panel, config, variant), tmp_path)
    bundle = load_bundle(tmp_path / "model")
    assert bundle.k == 0
    target = target_of(tiny_panel, [0, 1], np.arange(0, tiny_panel.n_sites, 5))
    said = np.concatenate([block.haplotype_dosage for block in Imputer(bundle).impute(target)])
    said = said[1:4]  # untyped, [3, 2, 2]
    assert np.isfinite(said).all()
    assert not np.array_equal(said[:, 0], said[:, 1])  # by the sample's own typed sites


def test_given_retrievers_replace_own_and_are_not_refreshed(tiny_panel: Panel, tmp_path: Path) -> None:
    config = tiny_config({"train": {"epochs": 2, "samples_per_epoch": 4}})
    memory = ReferenceSubset(tiny_panel, tiny_panel.training_haplotypes)
    index = TorchKeyIndex(memory, torch.ones(tiny_panel.n_sites))
    encoding = encode(tiny_panel, config.encode)
    retrievers = [RandomRetriever(index)]
    trainer = Trainer([tiny_panel], [encoding], config, "v18", accelerator="cpu", retrievers=retrievers)
    _, tracker = fit(trainer, tmp_path)
    assert not any(EACH_REFRESH & set(epoch) for epoch in tracker.epochs)
    _, own = fit(trainer_of(tiny_panel, config), tmp_path / "own")
    assert tracker.epochs[0]["train/loss"] != own.epochs[0]["train/loss"]


def test_accumulated_half_batches_equal_one_batch(tiny_panel: Panel) -> None:
    whole, halves = grouped_weights(tiny_panel, 8, 1), grouped_weights(tiny_panel, 4, 2)
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, atol=1e-4, rtol=1e-3)


def test_epoch_without_batch_of_a_process_is_refused(
    tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tiny_panel, tiny_config())
    monkeypatch.setattr(trainer.epoch_trainer, "plan", lambda epoch: [])  # as where batches are fewer than processes
    with pytest.raises(InputError) as caught:
        fit(trainer, tmp_path)
    assert caught.value.code == "too_few_batches"
    assert "--devices" in str(caught.value.hint)


def test_smaller_last_group_is_averaged_over_its_size(tiny_panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches, two accumulated: gradients are means over two batches and then over one."""
    config = tiny_config(
        {"encode": {"window": 256}, "train": {"batch_size": 1, "accumulate": 2, "samples_per_epoch": 3}}
    )
    trainer = trainer_of(tiny_panel, config)
    divisors: list[float] = []
    monkeypatch.setattr(trainer.parts.fabric, "backward", lambda loss: divisors.append(float(loss.detach())))
    losses: list[float] = []
    inner = trainer.epoch_trainer.loss

    def recorded(example: Any) -> Any:
        loss, probability = inner(example)
        losses.append(float(loss.detach()))
        return loss, probability

    monkeypatch.setattr(trainer.epoch_trainer, "loss", recorded)
    monkeypatch.setattr(trainer.epoch_trainer, "step", lambda run: None)
    trainer.epoch_trainer.train(0, trainer.run)
    assert divisors == pytest.approx([losses[0] / 2, losses[1] / 2, losses[2]])


def scripted_validation(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[dict[str, Any]]:
    """Replaces validation losses by ``losses``. Returns a list that receives the weights at each validation."""
    seen: list[dict[str, Any]] = []
    real = trainer.validator.validate

    def validate(epoch: int) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in trainer.parts.model.state_dict().items()})
        return {**real(epoch), "val/loss": losses[len(seen) - 1]}

    monkeypatch.setattr(trainer.validator, "validate", validate)
    return seen


def test_early_stopping_bundles_weights_of_best_epoch(
    tiny_panel: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config({"train": {"epochs": 9, "patience": 2, "samples_per_epoch": 4}})
    trainer = trainer_of(tiny_panel, config)
    seen = scripted_validation(trainer, monkeypatch, [0.5, 0.4, 0.45, 0.4, 0.1])
    result, tracker = fit(trainer, tmp_path)
    assert len(tracker.epochs) == 4  # two epochs without a loss below 0.4: an equal one is not better
    assert result.metrics["val/loss"] == 0.4
    weights = network_of(load_bundle(tmp_path / "model")).state_dict()
    for name, value in weights.items():
        assert torch.equal(value, seen[1][name]), name
    assert not torch.equal(weights["embedding.token.weight"], seen[3]["embedding.token.weight"])


def test_learning_rate_schedule_spans_run(tiny_panel: Panel, tmp_path: Path) -> None:
    config = tiny_config(
        {"train": {"epochs": 2, "samples_per_epoch": 10, "batch_size": 4, "accumulate": 2, "lr": 1e-3}}
    )
    trainer = trainer_of(tiny_panel, config)
    windows = len(trainer.parts.data.panels[0].windows)
    steps = math.ceil(windows * 3 / 2) * 2  # three batches a window
    assert trainer.epoch_trainer.total_steps == steps
    _, tracker = fit(trainer, tmp_path)
    assert trainer.run.step == steps
    assert tracker.epochs[-1]["lr"] == pytest.approx(learning_rate(steps - 1, steps, peak=1e-3, warmup_steps=2))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_not_finite_raises_diverged(tiny_panel: Panel, tmp_path: Path, value: float) -> None:
    trainer = trainer_of(tiny_panel, tiny_config())
    trainer.parts.model.register_forward_hook(
        lambda model, given, output: dataclasses.replace(output, network_logit=output.logit * 0 + value)
    )
    with pytest.raises(VcfbertError, match=r"in epoch 1, batch 1\n.*hint: lower train.lr") as caught:
        fit(trainer, tmp_path)
    assert caught.value.code == "diverged"
    assert not (tmp_path / "model").exists()


def test_weights_not_finite_raise_diverged_in_validation(tiny_panel: Panel, tmp_path: Path) -> None:
    """The loss of the epoch's last batch was still finite."""
    trainer = trainer_of(tiny_panel, tiny_config({"encode": {"window": 256}, "train": {"batch_size": 64}}))
    assert trainer.epoch_trainer.batches_per_epoch == 1
    trainer.parts.model.smoothing.register_hook(lambda gradient: gradient * math.nan)  # type: ignore[union-attr]
    with pytest.raises(VcfbertError, match="validation after epoch 1") as caught:
        fit(trainer, tmp_path)
    assert caught.value.code == "diverged"
    assert not (tmp_path / "model").exists()


def fail_forward(trainer: Trainer, error: Exception) -> None:
    """Lets every forward pass of the model raise ``error``."""

    def fail(*_: object) -> None:
        raise error

    trainer.parts.model.register_forward_pre_hook(fail)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_raises_resource_error_with_hint(tiny_panel: Panel, tmp_path: Path, error: Exception) -> None:
    trainer = trainer_of(tiny_panel, tiny_config({"train": {"batch_size": 6, "accumulate": 3}}))
    fail_forward(trainer, error)
    with pytest.raises(ResourceError) as caught:
        fit(trainer, tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("out_of_memory", 3)
    for text in ("batches of 6 samples", "train.batch_size (6)", "train.accumulate (3)", "vcfbert config", "cpu"):
        assert text in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_other_runtime_errors_are_not_translated(tiny_panel: Panel, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_panel, tiny_config(), "v17")
    fail_forward(trainer, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit(trainer, tmp_path)


class Stop(Exception):
    """Interrupts a run."""


def interrupted(panel: Panel, config: Config, folder: Path, *, epoch: int, variant: str = "v18") -> None:
    """Runs until the middle of ``epoch`` and raises there."""
    trainer = trainer_of(panel, config, variant)
    inner = trainer.epoch_trainer.train

    def train(number: int, run: RunState) -> dict[str, float]:
        metrics = inner(number, run)
        if number == epoch:
            raise Stop
        return metrics

    trainer.epoch_trainer.train = train  # type: ignore[method-assign]
    with pytest.raises(Stop):
        fit(trainer, folder)


class Resumed(MemoryTracker):
    def log_metrics(self, metrics: Any, step: int) -> None:
        self.epochs.append({"step": step, **metrics})


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_resumed_run_equals_uninterrupted_run(tiny_panel: Panel, tmp_path: Path, variant: str) -> None:
    epochs = 4 if variant == "v18" else 2  # V18's last epoch searches with the index of the epoch before
    train = {"epochs": epochs, "samples_per_epoch": 8, "accumulate": 2}
    config = tiny_config({"train": train, "retrieval": {"refresh_every": 2}, "model": {"dropout": 0.1}})
    interrupted(tiny_panel, config, tmp_path, epoch=epochs - 1, variant=variant)
    tracker = Resumed()
    result, _ = fit(trainer_of(tiny_panel, config, variant), tmp_path, tracker=tracker)
    assert tracker.run_ids == ["run-1"]
    assert [epoch["step"] for epoch in tracker.epochs] == [epochs - 1]
    assert result.run_id == "run-1"
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + epochs
    whole, _ = fit(trainer_of(tiny_panel, config, variant), tmp_path / "whole")
    folders = (tmp_path, tmp_path / "whole")
    one, other = (network_of(load_bundle(folder / "model")).state_dict() for folder in folders)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert result.metrics["val/loss"] == whole.metrics["val/loss"]


def test_restored_retriever_has_metric_of_last_refresh(tiny_panel: Panel, tmp_path: Path) -> None:
    """Not the metric of the model's current weights."""
    config = tiny_config({"train": {"samples_per_epoch": 8}})
    trainer = trainer_of(tiny_panel, config)
    trainer.epoch_trainer.train(0, trainer.run)
    trainer.refresh(1)
    trainer.epoch_trainer.train(1, trainer.run)
    store = Checkpoints(tmp_path)
    store.save_last(trainer.state())
    state = store.last()
    assert state is not None
    resumed = trainer_of(tiny_panel, config)
    resumed.restore(state)
    before, after = trainer.parts.data.retrievers[0], resumed.parts.data.retrievers[0]
    assert isinstance(before, EmbeddingRetriever)
    assert isinstance(after, EmbeddingRetriever)
    assert torch.equal(after.decay, before.decay)
    assert torch.equal(after.temperature, before.temperature)
    assert torch.equal(after.index.weights, before.index.weights)
    model = trainer.parts.model
    now = model.embedding.allele_weights(trainer.parts.data.panels[0].features).detach()
    assert (after.index.weights - now).abs().max() > 1e-4
    assert model.retrieval_heads is not None
    _, temperature = model.retrieval_heads.decay_and_temperature()
    assert (after.temperature - temperature).abs().max() > 1e-5


def other_split(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return dataclasses.replace(panel, validation=tuple(i + 1 for i in panel.validation[:-1])), config


def other_map(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return dataclasses.replace(panel, cm=panel.cm * 2), config


def other_rate(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return panel, dataclasses.replace(config, train=dataclasses.replace(config.train, lr=1e-4))


@pytest.mark.parametrize("change", [other_split, other_map, other_rate])
def test_changed_configuration_split_or_map_starts_new_run(tiny_panel: Panel, tmp_path: Path, change: Any) -> None:
    config = tiny_config({"train": {"epochs": 2, "samples_per_epoch": 4}})
    interrupted(tiny_panel, config, tmp_path, epoch=1)
    changed_panel, changed_config = change(tiny_panel, config)
    _, tracker = fit(trainer_of(changed_panel, changed_config), tmp_path)
    assert tracker.run_ids == [None]
    assert len(tracker.epochs) == 2


def test_training_does_not_depend_on_validation_samples(tiny_panel: Panel) -> None:
    """Weights and index after an epoch are the same for any alleles of the validation samples."""
    config = tiny_config({"train": {"samples_per_epoch": 8}})
    alleles = tiny_panel.alleles(slice(None)).copy()
    alleles[tiny_panel.validation_haplotypes] ^= 1
    changed = dataclasses.replace(
        tiny_panel,
        blocks=SiteBlocks.of_alleles(alleles),
        allele_count=alleles.sum(axis=0, dtype=np.int64),
    )
    trainers = [trainer_of(panel, config) for panel in (tiny_panel, changed)]
    for trainer in trainers:
        trainer.epoch_trainer.train(0, trainer.run)
        trainer.refresh(1)
    one, other = (trainer.parts.model.state_dict() for trainer in trainers)
    for name, value in one.items():  # up to the order of sums
        torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-4)
    weights = [trainer.parts.data.retrievers[0].index.weights for trainer in trainers]
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


def test_checkpoint_loads_without_pickle(tiny_panel: Panel, tmp_path: Path) -> None:
    """What is not a tensor can be written as JSON."""
    config = tiny_config({"train": {"epochs": 2, "samples_per_epoch": 4}})
    interrupted(tiny_panel, config, tmp_path, epoch=1)
    (path,) = (tmp_path / "checkpoints").rglob("last.pt")
    state = torch.load(path, weights_only=True)
    assert json.loads(json.dumps(state["run"]))["epoch"] == 1
