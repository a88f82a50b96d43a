"""V19's predictions of windows: which mixture, which haplotypes and how often; and those of the panel's haplotypes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from tests.helpers.panels import subset_panel
from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from tests.helpers.vcf_text import vcf_text, write_vcf
from vcfbert.bundle.contents import Bundle, whole_panel
from vcfbert.copying.mixture import CopyingModel, Mixture, Rates
from vcfbert.copying.window import HmmWindow
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.windows import Window, key_sites
from vcfbert.imputation.distinct import distinct_haplotypes
from vcfbert.imputation.hmm_predictor import HmmPredictor, held_out_predictor
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.phasing import PhasedTarget
from vcfbert.imputation.predictors import held_out_predictor_of, predictor_of
from vcfbert.imputation.window_prediction import PredictorOptions
from vcfbert.kernels import Calls, Floats

PANEL = random_panel(24, 120, seed=1)
REFERENCE = subset_panel(PANEL, samples=list(range(20)))
TYPED = np.arange(1, 120, 5)
K = 8
ENCODE = {"copy_window": 64, "copy_span_cm": 0.3}
NOT_IMPORTED = (
    "torch", "faiss", "lightning_fabric", "matplotlib", "mlflow", "pysam", "pydantic", "numpy.ma", "importlib.metadata",
    "rich", "vcfbert.cli.fit", "vcfbert.config",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hmm")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    config = tiny_config({"encode": ENCODE, "retrieval": {"k": {"v17": 2, "v18": K, "v19": K}}})
    return perturbed_bundle(folder / "v19", [REFERENCE], "v19", config)


def model_of(bundle: Bundle) -> CopyingModel:
    assert isinstance(bundle.model, CopyingModel)
    return bundle.model


def with_model(bundle: Bundle, **changes: Any) -> Bundle:
    return dataclasses.replace(bundle, model=dataclasses.replace(model_of(bundle), **changes))


def phased_target(samples: list[int]) -> MatchedTarget:
    """Samples that the reference does not hold, or holds (below 20)."""
    return dataclasses.replace(target_of(PANEL, samples, TYPED), panel_digest=REFERENCE.digest)


def unphased_target(samples: list[int]) -> MatchedTarget:
    target = phased_target(samples)
    return dataclasses.replace(target, alleles=np.sort(target.alleles, axis=2), phased=np.zeros_like(target.phased))


def dosages(bundle: Bundle, target: MatchedTarget, **options: Any) -> Floats:
    return np.concatenate([b.haplotype_dosage for b in Imputer(bundle, mode="fast", **options).impute(target)])


def test_sampled_phasings_are_copied_by_their_own_mixture(bundle: Bundle) -> None:
    model = model_of(bundle)
    phased, unphased = phased_target([21, 22]), unphased_target([21, 22])
    same = with_model(bundle, sampled=model.phased)
    other = with_model(bundle, sampled=Mixture.first(Rates(100.0, 0.05)))
    np.testing.assert_array_equal(dosages(other, phased), dosages(same, phased))
    assert np.abs(dosages(other, unphased) - dosages(same, unphased)).max() > 0.05
    given = with_model(bundle, phased=Mixture.first(Rates(100.0, 0.05)))
    assert np.abs(dosages(given, phased) - dosages(bundle, phased)).max() > 0.05
    np.testing.assert_array_equal(dosages(given, unphased), dosages(bundle, unphased))


@pytest.mark.parametrize(("t", "n"), [(3, 40), (0, 4), (5, 0), (1, 1)])
def test_distinct_haplotypes_give_all_haplotypes_back(t: int, n: int) -> None:
    calls = np.random.default_rng(3).integers(-1, 2, (t, n)).astype(np.int8)
    distinct, number = distinct_haplotypes(calls)
    assert distinct.shape == (t, len({tuple(one) for one in calls.T}))
    assert distinct.flags.c_contiguous
    np.testing.assert_array_equal(distinct[:, number], calls)


def test_equal_haplotypes_are_predicted_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    states = HmmWindow.states

    def telling(self: HmmWindow, calls: Calls, *more: Any, **options: Any) -> Any:
        told.append(calls.shape[1])
        return states(self, calls, *more, **options)

    monkeypatch.setattr(HmmWindow, "states", telling)
    target = phased_target([21, 22, 21, 23, 22])
    target.alleles[:, 3, 1] = target.alleles[:, 0, 0]
    found = dosages(bundle, target)
    assert told == [5] * len(bundle.parts[0].windows)  # both of samples 21 and 22, one of sample 23
    np.testing.assert_array_equal(found[:, [0, 1]], found[:, [2, 4]])
    np.testing.assert_array_equal(found[:, 3, 1], found[:, 0, 0])
    for place in range(5):
        alone = dosages(bundle, target.of_samples(np.array([place])))
        np.testing.assert_allclose(alone[:, 0], found[:, place], atol=1e-6)


@pytest.mark.parametrize("make", [phased_target, unphased_target])
def test_predictions_do_not_depend_on_threads(bundle: Bundle, make: Any) -> None:
    target = make([20, 21, 22, 23])
    np.testing.assert_array_equal(dosages(bundle, target, threads=1), dosages(bundle, target, threads=3))


@pytest.mark.parametrize("make", [phased_target, unphased_target])
def test_predictions_do_not_depend_on_the_batch(bundle: Bundle, make: Any) -> None:
    target = make([20, 21, 22, 23])
    np.testing.assert_array_equal(dosages(bundle, target, batch_size=1), dosages(bundle, target, batch_size=3))


def test_seconds_of_each_choice_are_observed(bundle: Bundle) -> None:
    told: list[float] = []
    dosages(bundle, phased_target([21]), observe_retrieval=told.append)
    assert len(told) == len(bundle.parts[0].windows)
    assert min(told) > 0


def test_predictor_of_v19_is_the_hmm(bundle: Bundle) -> None:
    assert isinstance(predictor_of(bundle, PredictorOptions()), HmmPredictor)


def held_out(reference: ReferenceSubset, model: CopyingModel, window: Window, haplotypes: list[int]) -> Floats:
    predict = held_out_predictor(model, reference, K, threads=1)
    return predict(window, key_sites(window, TYPED, PANEL.cm), np.array(haplotypes))


def test_held_out_prediction_equals_that_of_a_target(bundle: Bundle) -> None:
    """Of samples that the reference subset does not hold."""
    window, target = bundle.parts[0].windows[0], PhasedTarget(phased_target([21, 23]), None)
    expected = predictor_of(bundle, PredictorOptions()).predict(bundle.parts[0], window, target).haplotype
    subset = ReferenceSubset(PANEL, np.arange(40))
    found = held_out(subset, model_of(bundle), window, [42, 43, 46, 47])
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected, atol=1e-6)


def test_held_out_prediction_excludes_both_haplotypes_of_the_sample(bundle: Bundle) -> None:
    window = bundle.parts[0].windows[0]
    model = CopyingModel.first()  # whose mixture weights do not depend on the subset's frequencies
    found = held_out(whole_panel(PANEL), model, window, [6, 7])
    others = ReferenceSubset(PANEL, np.setdiff1d(np.arange(48), [6, 7]))
    np.testing.assert_allclose(found, held_out(others, model, window, [6, 7]), atol=1e-6)
    truth = PANEL.alleles(window.sites, np.array([6, 7]))
    assert np.abs(found[0] - truth).max() > 0.5  # its own haplotypes would have given the truth


def test_held_out_prediction_without_typed_sites_is_the_frequency(bundle: Bundle) -> None:
    subset = ReferenceSubset(REFERENCE, np.arange(10, 40))
    predict = held_out_predictor_of(bundle, subset, batch_size=4, threads=1)
    window = bundle.parts[0].windows[1]
    found = predict(window, np.empty(0, dtype=np.int64), np.arange(6))
    assert (found.shape, found.dtype) == ((3, 2, window.stop - window.start), np.float32)
    np.testing.assert_allclose(found, np.broadcast_to(subset.af[window.sites], found.shape), rtol=1e-6)


def test_held_out_prediction_copies_at_most_the_other_haplotypes(bundle: Bundle) -> None:
    """Of a subset of eight haplotypes at most six are of other samples."""
    subset = ReferenceSubset(REFERENCE, np.arange(8))
    window = bundle.parts[0].windows[0]
    key = key_sites(window, TYPED, REFERENCE.cm)
    found = held_out_predictor_of(bundle, subset, batch_size=4, threads=1)(window, key, np.arange(4))
    assert np.isfinite(found).all()


# Each imputes by the bundle, target and output of its arguments, and prints those of the packages that were imported.
BY_THE_LIBRARY = """
import sys, vcfbert
bundle, target, out, packages = sys.argv[1:]
vcfbert.impute_file(vcfbert.Imputer(vcfbert.load_bundle(bundle), mode="fast"), target, out)
print(sorted(set(packages.split(",")) & set(sys.modules)))
"""
BY_THE_COMMAND = """
import sys
from vcfbert.cli.app import main
bundle, target, out, packages = sys.argv[1:]
sys.argv[1:] = ["impute", "--model", bundle, "--target", target, "--out", out]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted(set(packages.split(",")) & set(sys.modules)))
"""


@pytest.mark.integration  # a process of its own
@pytest.mark.parametrize("code", [BY_THE_LIBRARY, BY_THE_COMMAND], ids=["library", "command"])
def test_imputation_by_v19_imports_nothing_that_it_does_not_use(
    bundle: Bundle, folder: Path, tmp_path: Path, code: str
) -> None:
    """Of a phased and an unphased sample."""
    assert bundle.variant == "v19"
    records = [(int(PANEL.sites.pos[site]), "A", "G", "0|1 0/1") for site in TYPED]
    target, out = write_vcf(tmp_path / "target.vcf.gz", vcf_text(records)), tmp_path / "out.vcf.gz"
    arguments = [str(folder / "v19"), str(target), str(out), ",".join(NOT_IMPORTED)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    with pysam.VariantFile(str(out)) as file:
        assert sum(1 for _ in file) == PANEL.n_sites
