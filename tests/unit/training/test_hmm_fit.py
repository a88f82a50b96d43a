"""V19's fit: its bundle, its logged steps, and an interrupted fit that is continued."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fit_tiny import AnyEpochTracker
from tests.helpers.tiny import MemoryTracker, haploid_panel, panel_from_alleles, random_panel, target_of, tiny_config
from vcfbert.bundle.load import load_bundle
from vcfbert.config import Config
from vcfbert.copying.mixture import CopyingModel
from vcfbert.copying.window import HmmWindow
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.store import panel_digest, panels_digest
from vcfbert.imputation.imputer import Imputer
from vcfbert.training.fit import fitter_of
from vcfbert.training.hmm_fit import STAGES, HmmFit
from vcfbert.training.progress import FitProgress, SilentProgress
from vcfbert.training.result import AfterEpoch, FitOutput, FitResult

# Each test fits V19: seconds of work.
pytestmark = pytest.mark.integration

ENCODE = {"copy_window": 100, "copy_span_cm": 0.5}
CONFIG = tiny_config({"encode": ENCODE, "masks": {"array_density": (0.1, 0.1)}})
STEP = {"search/loss", "search/switches_per_cm", "search/mismatch", "search/stage", "search/step_seconds"}
FINAL = {
    "val/loss",
    "val/genotype_loss",
    "val/f1",
    "val/rare_f1",
    "val/r2/all",
    "search/pair_rate",
    "search/phased_mismatch",
    "search/sampled_weights_gain",
    "search/phase_errors_per_cm",
    "peak_rss_mb",
    "epoch_seconds",
}


def mosaic_panel(*, n_samples: int = 16, n_sites: int = 160, validation: tuple[int, ...] = (1, 6, 11)) -> Panel:
    """Haplotypes that copy eight founders in turn, one at a time."""
    rng = np.random.default_rng(4)
    founders = (rng.random((8, n_sites)) < rng.uniform(0.15, 0.5, n_sites)).astype(np.uint8)
    switch = rng.random((2 * n_samples, n_sites)) < 0.01
    switch[:, 0] = True
    held = np.maximum.accumulate(np.where(switch, np.arange(n_sites), 0), axis=1)
    founder = np.take_along_axis(rng.integers(len(founders), size=switch.shape), held, axis=1)
    cm = np.arange(n_sites) * 0.02
    return panel_from_alleles(founders[founder, np.arange(n_sites)], cm=cm, validation=validation)


PANEL = mosaic_panel()


def fit(
    folder: Path,
    *,
    panels: list[Panel] | None = None,
    config: Config = CONFIG,
    tracker: MemoryTracker | None = None,
    progress: FitProgress | None = None,
    bundle: bool = True,
    after_epoch: AfterEpoch | None = None,
) -> tuple[FitResult, MemoryTracker]:
    tracker = tracker or MemoryTracker()
    output = FitOutput(
        folder / "model" if bundle else None,
        tracker,
        checkpoints=folder / "checkpoints",
        metrics_csv=folder / "metrics.csv",
        tags={"source": "test"},
        data={"panel": "abc"},
    )
    fitter = HmmFit(panels or [PANEL], config, progress=progress, threads=1)
    result = fitter.fit(output, after_epoch=after_epoch)
    return result, tracker


@dataclasses.dataclass(frozen=True)
class Fitted:
    folder: Path
    result: FitResult
    tracker: MemoryTracker

    @property
    def weights(self) -> bytes:
        return (self.folder / "model/weights.safetensors").read_bytes()

    @property
    def steps(self) -> list[dict[str, float]]:
        return self.tracker.epochs[:-1]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("fitted")
    return Fitted(folder, *fit(folder))


def figures_of(step: Mapping[str, float]) -> tuple[float, ...]:
    """The stage, rates and loss of a logged step."""
    return tuple(step[f"search/{name}"] for name in ("stage", "switches_per_cm", "mismatch", "loss"))


def test_fit_writes_bundle_that_loads_and_imputes(fitted: Fitted) -> None:
    result, tracker = fitted.result, fitted.tracker
    bundle = load_bundle(fitted.folder / "model")
    assert (bundle.variant, bundle.k, bundle.panels[0].digest) == ("v19", CONFIG.retrieval.k["v19"], PANEL.digest)
    assert isinstance(bundle.model, CopyingModel)
    assert result.metrics == bundle.manifest["metrics"] == tracker.epochs[-1]
    assert result.parameters == bundle.model.n_parameters
    assert result.data_digest == panels_digest([PANEL])
    assert (result.run_id, result.model_uri) == ("run-1", "models:/v19")
    assert tracker.tags == {"variant": "v19", "data.panel": "abc", "source": "test"}
    assert tracker.bundles == [fitted.folder / "model"]
    found = {"pair": bundle.model.pair, "phased": bundle.model.phased.rates, "sampled": bundle.model.sampled.rates}
    for name, rates in found.items():
        assert result.metrics[f"search/{name}_rate"] == rates.switches_per_cm
        assert result.metrics[f"search/{name}_mismatch"] == rates.mismatch
    for phased in (True, False):
        target = target_of(PANEL, [1, 6], np.arange(0, PANEL.n_sites, 8), phased=phased)
        dosage = np.concatenate([block.haplotype_dosage for block in Imputer(bundle).impute(target)]).sum(axis=2)
        truth = PANEL.alleles(slice(None), PANEL.haplotypes_of([1, 6])).T.reshape(-1, 2, 2).sum(axis=2)
        assert np.corrcoef(dosage.ravel(), truth.ravel())[0, 1] > 0.9


def test_search_steps_are_logged_in_order_of_stages(fitted: Fitted) -> None:
    """``MemoryTracker`` checks that step numbers rise by one."""
    assert all(set(step) == STEP for step in fitted.steps)
    stages = [step["search/stage"] for step in fitted.steps]
    assert stages == sorted(stages)
    assert set(stages) == {1.0, 2.0, 3.0, 4.0}
    assert all(math.isfinite(value) for step in fitted.tracker.epochs for value in step.values())
    assert set(fitted.result.metrics) >= FINAL


def test_metrics_csv_has_one_row_of_final_figures(fitted: Fitted) -> None:
    (row,) = csv.DictReader((fitted.folder / "metrics.csv").open())
    assert float(row["val/loss"]) == pytest.approx(fitted.result.metrics["val/loss"], rel=1e-4)


def test_finished_fit_leaves_no_kept_steps(fitted: Fitted) -> None:
    assert list((fitted.folder / "checkpoints").iterdir()) == []


def test_same_seed_gives_same_weights(fitted: Fitted, tmp_path: Path) -> None:
    fit(tmp_path)
    assert (tmp_path / "model/weights.safetensors").read_bytes() == fitted.weights


def test_other_seed_gives_other_losses(fitted: Fitted, tmp_path: Path) -> None:
    train = dataclasses.replace(CONFIG.train, seed=CONFIG.train.seed + 1)
    _, tracker = fit(tmp_path, config=dataclasses.replace(CONFIG, train=train), bundle=False)
    assert figures_of(tracker.epochs[0])[:3] == figures_of(fitted.steps[0])[:3]
    assert tracker.epochs[0]["search/loss"] != fitted.steps[0]["search/loss"]


def test_fit_without_bundle_records_figures_alone(fitted: Fitted, tmp_path: Path) -> None:
    told: list[tuple[int, Mapping[str, float]]] = []

    def after_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        told.append((epoch, metrics))
        return True

    result, tracker = fit(tmp_path, bundle=False, after_epoch=after_epoch)
    assert told == [(0, result.metrics)]
    assert (result.model_uri, tracker.bundles) == ("", [])
    assert not (tmp_path / "model").exists()
    assert result.metrics["val/loss"] == fitted.result.metrics["val/loss"]


class Stop(Exception):
    """Interrupts a fit."""


class StoppingTracker(MemoryTracker):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        super().log_metrics(metrics, step)
        self.left -= 1
        if not self.left:
            raise Stop


class StoppingProgress(SilentProgress):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, figures: str) -> None:
        self.left -= 1
        if not self.left:
            raise Stop


class Continued(AnyEpochTracker):
    """Keeps the numbers of the steps, which do not start from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        super().log_metrics(metrics, step)
        self.numbers.append(step)


@pytest.mark.parametrize("by", ["tracker", "progress"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_interrupted_search_is_continued(fitted: Fitted, tmp_path: Path, by: str, share: float) -> None:
    """Rates whose loss was logged are not tried again, and the model is that of an uninterrupted fit."""
    done = max(int(share * len(fitted.steps)), 1)
    before = StoppingTracker(done if by == "tracker" else 10**6)
    with pytest.raises(Stop):
        fit(tmp_path, tracker=before, progress=StoppingProgress(done if by == "progress" else 10**6))
    assert len(before.epochs) == done
    assert not (tmp_path / "model").exists()
    after = Continued()
    result, _ = fit(tmp_path, tracker=after)
    assert after.run_ids == ["run-1"]
    assert after.numbers == list(range(done, len(fitted.tracker.epochs)))
    steps = [*before.epochs, *after.epochs[:-1]]
    assert [figures_of(step) for step in steps] == [figures_of(step) for step in fitted.steps]
    assert (tmp_path / "model/weights.safetensors").read_bytes() == fitted.weights
    assert result.metrics["val/loss"] == fitted.result.metrics["val/loss"]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_continued_fit_counts_seconds_before_interruption(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        fit(tmp_path, progress=StoppingProgress(3))
    (kept,) = (tmp_path / "checkpoints").rglob("search.json")
    state = json.loads(kept.read_text())
    kept.write_text(json.dumps({**state, "seconds": 1e6}))
    result, _ = fit(tmp_path, tracker=Continued())
    assert 1e6 < result.seconds < 1e6 + 1000.0


def other_split(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return dataclasses.replace(panel, validation=(2, 6, 11)), config


def other_map(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return dataclasses.replace(panel, cm=panel.cm * 2), config


def other_span(panel: Panel, config: Config) -> tuple[Panel, Config]:
    return panel, dataclasses.replace(config, encode=dataclasses.replace(config.encode, copy_span_cm=0.6))


@pytest.mark.parametrize("change", [other_split, other_map, other_span])
def test_changed_configuration_split_or_map_starts_new_run(
    tmp_path: Path, change: Callable[[Panel, Config], tuple[Panel, Config]]
) -> None:
    with pytest.raises(Stop):
        fit(tmp_path, progress=StoppingProgress(2))
    panel, config = change(PANEL, CONFIG)
    with pytest.raises(Stop):
        fit(tmp_path, panels=[panel], config=config, tracker=(tracker := MemoryTracker()), progress=StoppingProgress(1))
    assert tracker.run_ids == [None]
    assert len(tracker.epochs) == 1


class Listed(SilentProgress):
    def __init__(self) -> None:
        self.parts: list[tuple[str, int | None]] = []
        self.figures: list[list[str]] = []

    def begin(self, title: str, steps: int | None) -> None:
        self.parts.append((title, steps))
        self.figures.append([])

    def step(self, figures: str) -> None:
        self.figures[-1].append(figures)


def test_progress_names_each_stage_and_its_steps(fitted: Fitted, tmp_path: Path) -> None:
    shown = Listed()
    fit(tmp_path, progress=shown, bundle=False)
    titles = [f"{number}/4 {title}" for number, title in enumerate(STAGES.values(), start=1)]
    assert shown.parts == [*((title, None) for title in titles), ("validation", 1)]
    assert sum(map(len, shown.figures[:-1])) == len(fitted.steps)
    assert shown.figures[0][0].endswith(f"loss {fitted.steps[0]['search/loss']:.5f}")


def test_fit_on_several_panels_writes_bundle_of_all(tmp_path: Path) -> None:
    males = dataclasses.replace(haploid_panel(70, validation=(3, 4)), region=Region("X", 101, 9_000))
    panels = [random_panel(9, 90, seed=1, validation=(2, 5)), dataclasses.replace(males, digest=panel_digest(males))]
    result, _ = fit(tmp_path, panels=panels)
    bundle = load_bundle(tmp_path / "model")
    assert result.data_digest == bundle.panel_digest == panels_digest(panels)
    assert [panel.haploid for panel in bundle.panels] == [(), (1, 3)]
    assert [str(panel.region) for panel in bundle.panels] == ["20", "X:101-9000"]
    assert [len(part.reference) for part in bundle.parts] == [18, 10]
    assert 0.0 < result.metrics["val/loss"] < 2.0
    alone, _ = fit(tmp_path / "alone", panels=panels[:1], bundle=False)
    assert alone.metrics["val/loss"] != result.metrics["val/loss"]


@pytest.mark.parametrize("n_samples", [3, 12])
def test_single_validation_sample_suffices(tmp_path: Path, n_samples: int) -> None:
    panel = mosaic_panel(n_samples=n_samples, validation=(1,))
    result, tracker = fit(tmp_path, panels=[panel])
    assert math.isfinite(result.metrics["val/genotype_loss"])
    assert all(math.isfinite(step["search/loss"]) for step in tracker.epochs[:-1])
    bundle = load_bundle(tmp_path / "model")
    dosages = [block.haplotype_dosage for block in Imputer(bundle).impute(target_of(panel, [0], np.arange(0, 160, 8)))]
    assert np.isfinite(np.concatenate(dosages)).all()


def test_panel_with_one_training_sample_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        HmmFit([PANEL, mosaic_panel(n_samples=2, validation=(1,))], CONFIG)
    assert (caught.value.code, caught.value.exit_code) == ("panel_too_small", 2)


def test_validation_samples_are_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the search nor in validation: all haplotypes come from the training split."""
    copied: set[int] = set()
    of = HmmWindow.of

    def noted(reference, *rest, **options):  # type: ignore[no-untyped-def]
        copied.update(reference.haplotypes.tolist())
        return of(reference, *rest, **options)

    monkeypatch.setattr(HmmWindow, "of", noted)
    fit(tmp_path, bundle=False)
    assert copied == set(PANEL.training_haplotypes.tolist())


@pytest.mark.parametrize("devices", [2, 8])
def test_more_than_one_process_is_refused(devices: int) -> None:
    def encodings() -> list[object]:
        raise AssertionError("V19 needs no encodings")

    with pytest.raises(InputError) as caught:
        fitter_of("v19", [PANEL], encodings, CONFIG, devices=devices)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.exit_code) == ("devices", 2)
    assert isinstance(fitter_of("v19", [PANEL], encodings, CONFIG), HmmFit)  # type: ignore[arg-type]
