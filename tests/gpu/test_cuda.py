"""What only a CUDA device can show: the same numbers as the CPU's, bf16 training, and its memory measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny import MemoryTracker, perturbed_bundle, random_panel, target_of, tiny_config
from vcfbert.bundle.load import load_bundle
from vcfbert.errors import ResourceError
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation.imputer import Imputer
from vcfbert.model.v18 import V18
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.torch_index import TorchKeyIndex
from vcfbert.training.checkpoint import Checkpoints
from vcfbert.training.loop import Trainer
from vcfbert.training.result import FitOutput, FitResult

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")

PANEL = random_panel(40, 200, seed=1, validation=(3, 17, 20))


def fit(folder: Path, variant: str, **train: object) -> tuple[FitResult, MemoryTracker, Trainer]:
    config = tiny_config({"train": train})
    trainer = Trainer([PANEL], [encode(PANEL, config.encode)], config, variant, accelerator="cuda")
    tracker = MemoryTracker()
    checkpoints, metrics_csv = folder / "checkpoints", folder / "metrics.csv"
    result = trainer.fit(FitOutput(folder / "model", tracker, checkpoints, metrics_csv, tags={}, data={}))
    return result, tracker, trainer


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_a_bundle_imputes_alike_on_both(tmp_path: Path, variant: str) -> None:
    perturbed_bundle(tmp_path / "b", [PANEL], variant)
    target = target_of(PANEL, [1, 5, 9], np.arange(1, 200, 5))
    blocks = [list(Imputer(load_bundle(tmp_path / "b", device=d)).impute(target)) for d in ("cpu", "cuda")]
    for on_cpu, on_cuda in zip(*blocks, strict=True):
        np.testing.assert_allclose(on_cuda.haplotype_dosage, on_cpu.haplotype_dosage, atol=1e-3)


def test_search_on_the_device_ranks_as_faiss_does() -> None:
    memory = ReferenceSubset(PANEL, np.arange(80))
    weights = torch.rand(200, generator=torch.Generator().manual_seed(1)) + 0.1
    sites, queries = torch.arange(0, 200, 3), torch.from_numpy(PANEL.alleles(np.arange(0, 200, 3))).float()
    expected = FaissKeyIndex.build(memory, weights).search(sites, queries, 9)
    found = TorchKeyIndex(memory, weights.cuda()).search(sites.cuda(), queries.cuda(), 9)
    torch.testing.assert_close(found[0].cpu(), expected[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize("variant", ["v17", "v18"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_logs_finite_figures_and_the_devices_memory(tmp_path: Path, variant: str, precision: str) -> None:
    _, tracker, trainer = fit(tmp_path, variant, precision=precision)
    assert trainer.parts.fabric.device.type == "cuda"
    for epoch in tracker.epochs:
        assert epoch["peak_cuda_mb"] > 0
        assert all(math.isfinite(value) for value in epoch.values())
    assert load_bundle(tmp_path / "model").variant == variant


def test_automatic_precision_is_bf16(tmp_path: Path) -> None:
    config = tiny_config()
    trainer = Trainer([PANEL], [encode(PANEL, config.encode)], config, "v18")
    assert trainer.parts.fabric.strategy.precision.precision == "bf16-mixed"
    assert isinstance(trainer.parts.data.retrievers[0].index, TorchKeyIndex)


def test_compiled_training_runs(tmp_path: Path) -> None:
    _, tracker, _ = fit(tmp_path, "v18", compile=True, epochs=1)
    assert math.isfinite(tracker.epochs[0]["val/loss"])


def test_a_full_device_is_answered_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        torch.empty(2**50, device="cuda")

    monkeypatch.setattr(V18, "forward", forward)
    with pytest.raises(ResourceError, match=r"train\.batch_size") as caught:
        fit(tmp_path, "v18")
    assert caught.value.code == "out_of_memory"


def test_a_gpu_run_resumes_from_its_checkpoint_and_refreshes(tmp_path: Path) -> None:
    config = tiny_config({"train": {"epochs": 2}})
    trainer, other = (
        Trainer([PANEL], [encode(PANEL, config.encode)], config, "v18", accelerator="cuda") for _ in range(2)
    )
    trainer.epoch_trainer.train(0, trainer.run)
    store = Checkpoints(tmp_path)
    store.save_last(trainer.state())
    state = store.last()
    assert state is not None
    other.restore(state)
    assert other.run == trainer.run
    for name, value in trainer.parts.model.state_dict().items():
        torch.testing.assert_close(other.parts.model.state_dict()[name], value)
    reports = [t.refresh(1) for t in (trainer, other)]
    assert reports[0]["refresh/drift"] == pytest.approx(reports[1]["refresh/drift"])
    assert math.isfinite(other.epoch_trainer.train(1, other.run)["train/loss"])
