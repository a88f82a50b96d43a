from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.panels import subset_panel
from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from vcfbert.bundle.contents import Bundle
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import save_network
from vcfbert.constants import ABSENT, MISSING
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.phasing import MODES, PhasingMode, phase_alleles
from vcfbert.model.variants import create

PANEL = random_panel(40, 200, seed=1)
REFERENCE = subset_panel(PANEL, samples=list(range(30)))
TARGETS = [31, 33, 36, 39]
TYPED = np.arange(1, 200, 5)
COPY_WINDOWS = {"window": 64, "flank": 8, "span_cm": 0.05, "copy_window": 64, "copy_span_cm": 0.3}


@pytest.fixture(scope="module", params=["v17", "v18", "v19"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return saved_bundle(tmp_path_factory.mktemp("bundle"), REFERENCE, request.param)


def saved_bundle(folder: Path, panel: Panel, variant: str, k: int = 8) -> Bundle:
    sections = {"retrieval": {"k": {"v17": min(k, 2), "v18": k, "v19": k}}, "encode": COPY_WINDOWS}
    config = tiny_config(sections)
    return perturbed_bundle(folder / variant, [panel], variant, config)


def new_target(samples: list[int], typed: npt.NDArray[np.int64], *, phased: bool = True) -> MatchedTarget:
    """Samples that the reference does not hold."""
    return dataclasses.replace(target_of(PANEL, samples, typed, phased=phased), panel_digest=REFERENCE.digest)


def whole(blocks: list[ImputedBlock]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Haplotype dosages [l, n, 2] and genotype probabilities [l, n, 3] of all blocks, which must tile their sites."""
    for before, after in pairwise(blocks):
        assert before.stop == after.start
    for block in blocks:
        assert len(block.haplotype_dosage) == block.stop - block.start > 0
    return np.concatenate([b.haplotype_dosage for b in blocks]), np.concatenate([genotypes(b) for b in blocks])


def genotypes(block: ImputedBlock) -> npt.NDArray[np.float32]:
    """[l, n, 3], where the block has none those of independent haplotypes."""
    if block.genotype_probability is not None:
        return block.genotype_probability
    p, q = np.moveaxis(block.haplotype_dosage, 2, 0)
    return np.stack([(1 - p) * (1 - q), p * (1 - q) + q * (1 - p), p * q], axis=-1)


def imputed(bundle: Bundle, target: MatchedTarget, **options: int) -> tuple[npt.NDArray[np.float32], ...]:
    return whole(list(Imputer(bundle, **options).impute(target)))


def test_blocks_tile_the_sites_with_consistent_probabilities(bundle: Bundle) -> None:
    steps: list[int] = []
    target = new_target(TARGETS, TYPED)
    blocks = list(Imputer(bundle).impute(target, progress=steps.append))
    assert len(blocks) > 2
    assert (blocks[0].start, blocks[-1].stop) == (0, 200)
    assert steps == [b.stop - b.start for b in blocks]
    haplotype, genotype = whole(blocks)
    assert (haplotype.shape, genotype.shape) == ((200, 4, 2), (200, 4, 3))
    assert haplotype.min() >= 0
    assert haplotype.max() <= 1
    assert genotype.min() >= 0
    np.testing.assert_allclose(genotype.sum(axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose(genotype[..., 1] + 2 * genotype[..., 2], haplotype.sum(axis=2), atol=1e-5)


def test_typed_calls_are_passed_through(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    target.alleles[3, 1] = MISSING
    calls = np.concatenate([b.calls for b in Imputer(bundle).impute(target)])
    assert (calls[np.setdiff1d(np.arange(200), TYPED)] == MISSING).all()
    assert np.array_equal(calls[TYPED], target.alleles)


def test_haploid_sample_is_imputed_as_its_one_haplotype(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    diploid, _ = imputed(bundle, target)
    target.alleles[:, 1, 1] = ABSENT
    haploid, _ = imputed(bundle, target)
    np.testing.assert_allclose(haploid[:, 1, 0], diploid[:, 1, 0], atol=1e-5)
    np.testing.assert_allclose(haploid[:, 1, 1], diploid[:, 1, 0], atol=1e-5)
    np.testing.assert_allclose(haploid[:, [0, 2, 3]], diploid[:, [0, 2, 3]], atol=1e-5)


def test_unphased_target_is_refused_with_a_hint(bundle: Bundle) -> None:
    if bundle.model.takes_unphased:
        pytest.skip("it takes unphased targets")
    target = new_target(TARGETS, TYPED)
    heterozygous = target.alleles[:, 2, 0] != target.alleles[:, 2, 1]
    first = int(np.flatnonzero(heterozygous)[3])
    target.phased[:, 0] = target.alleles[:, 0, 0] != target.alleles[:, 0, 1]  # homozygous calls need no phase
    target.phased[first:, 2] = False
    where = f"20:{PANEL.sites.pos[TYPED[first]]}"
    with pytest.raises(
        InputError, match=rf"first at {where}: 1 of 4 samples have unphased.*\n.*hint: phase it first.*beagle"
    ) as caught:
        next(Imputer(bundle).impute(target))
    assert caught.value.code == "unphased"


def test_sample_is_imputed_equally_alone_among_others_and_in_any_batch(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    together = imputed(bundle, target)
    for batch_size in (1, 3):
        for one, other in zip(imputed(bundle, target, batch_size=batch_size), together, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    for place in range(4):
        for one, other in zip(imputed(bundle, target.of_samples(np.array([place]))), together, strict=True):
            np.testing.assert_allclose(one[:, 0], other[:, place], atol=1e-5)


def test_missing_calls_of_one_sample_do_not_change_the_others(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    holes = dataclasses.replace(target, alleles=target.alleles.copy())
    holes.alleles[::2, 1] = MISSING
    holes.alleles[1, 1, 0] = MISSING  # half a call
    before, after = imputed(bundle, target), imputed(bundle, holes)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one[:, [0, 2, 3]], other[:, [0, 2, 3]], atol=1e-5)
        assert np.abs(one[:, 1] - other[:, 1]).max() > 1e-3
        assert np.isfinite(other).all()


def test_site_missing_in_all_samples_equals_an_untyped_site(bundle: Bundle) -> None:
    """Holds if the retrieval window has enough other typed sites. Whether it is extended depends on the file's sites,
    so that a sample's result does not depend on the missing calls of others."""
    if bundle.variant == "v19":
        pytest.skip("V19 computes such a site by its HMM, and interpolates an untyped one")
    for one, other in zip(*with_and_without_missing_sites(bundle), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def with_and_without_missing_sites(bundle: Bundle) -> tuple[tuple[npt.NDArray[np.float32], ...], ...]:
    dense = np.arange(200)
    holes = new_target(TARGETS, dense)
    holes.alleles[::2] = MISSING
    return imputed(bundle, holes), imputed(bundle, new_target(TARGETS, dense[1::2]))


def test_hmm_at_a_site_missing_in_all_samples_is_close_to_interpolation(tmp_path: Path) -> None:
    everybody = saved_bundle(tmp_path, REFERENCE, "v19", k=60)  # the same states to copy from
    for one, other in zip(*with_and_without_missing_sites(everybody), strict=True):
        assert np.abs(one - other).max() < 0.1
        assert np.abs(one - other).mean() < 0.005


def test_loo_dosage_is_that_of_the_site_with_its_call_missing(tmp_path: Path) -> None:
    """Only V19 gives leave-one-out dosages."""
    bundle = saved_bundle(tmp_path, REFERENCE, "v19", k=60)
    model = bundle.model
    assert isinstance(model, CopyingModel)
    # Where a switch leads does not depend on the calls then.
    model = dataclasses.replace(model, phased=dataclasses.replace(model.phased, prior_strength=0.0))
    bundle = dataclasses.replace(bundle, model=model)
    target = new_target(TARGETS, TYPED)
    told = np.concatenate([block.loo_dosage for block in Imputer(bundle).impute(target)])
    assert np.isnan(np.delete(told, TYPED, axis=0)).all()
    for site in (0, len(TYPED) // 2, len(TYPED) - 1):
        without = new_target(TARGETS, TYPED)
        without.alleles[site] = MISSING
        dosage, _ = imputed(bundle, without)
        np.testing.assert_allclose(told[TYPED[site]], dosage[TYPED[site]], atol=1e-3)


def test_sample_without_any_call_is_imputed(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    target.alleles[:, 2] = MISSING
    for values in imputed(bundle, target):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("interval", [(0, 1), (3, 77), (60, 130), (128, 200), (199, 200)])
def test_interval_has_the_values_of_the_whole(bundle: Bundle, interval: tuple[int, int]) -> None:
    target = new_target(TARGETS, TYPED)
    blocks = list(Imputer(bundle).impute(target, sites=interval))
    assert (blocks[0].start, blocks[-1].stop) == interval
    for one, other in zip(whole(blocks), imputed(bundle, target), strict=True):
        np.testing.assert_allclose(one, other[slice(*interval)], atol=1e-6 if bundle.variant == "v19" else 0)


@pytest.mark.parametrize("typed", [[100], [0], [5, 199], [10, 11, 12]])
def test_very_few_typed_sites_give_finite_probabilities(bundle: Bundle, typed: list[int]) -> None:
    """One site in all, or none in most windows: the nearest typed sites then retrieve."""
    haplotype, genotype = imputed(bundle, new_target(TARGETS, np.array(typed)))
    assert np.isfinite(haplotype).all()
    np.testing.assert_allclose(genotype.sum(axis=2), 1.0, atol=1e-5)


def test_swapping_a_samples_haplotypes_swaps_its_results(bundle: Bundle) -> None:
    target = new_target(TARGETS, TYPED)
    swapped = dataclasses.replace(target, alleles=target.alleles[..., ::-1].copy())
    one, other = imputed(bundle, target), imputed(bundle, swapped)
    np.testing.assert_allclose(other[0][..., ::-1], one[0], atol=1e-5)
    np.testing.assert_allclose(other[1], one[1], atol=1e-5)


def test_own_sample_of_the_panel_gets_its_own_alleles(tmp_path: Path) -> None:
    """A sample's own haplotypes are its nearest. With K = 1 the untrained vote is its own alleles."""
    config = tiny_config({"retrieval": {"k": {"v17": 1, "v18": 1, "v19": 1}}})
    save_network(tmp_path / "b", create("v18", config.model), [REFERENCE], config, metrics={}, data={})
    haplotype, _ = imputed(load_bundle(tmp_path / "b"), target_of(REFERENCE, [4, 9], TYPED))
    truth = REFERENCE.alleles(slice(None), np.array([8, 9, 18, 19])).T.reshape(200, 2, 2)
    assert np.array_equal(haplotype >= 0.5, truth == 1)


@pytest.fixture(scope="module")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return saved_bundle(tmp_path_factory.mktemp("copying"), REFERENCE, "v19", k=12)


def unphased_target(*, haploid: list[int] | None = None, missing: float = 0.0) -> MatchedTarget:
    """A target whose heterozygous calls are 0/1, as in unphased files."""
    rng = np.random.default_rng(4)
    target = new_target(TARGETS, TYPED, phased=False)
    alleles = np.sort(target.alleles, axis=2)
    alleles[rng.random(alleles.shape[:2]) < missing] = MISSING
    for sample in haploid or []:
        alleles[:, sample, 1] = ABSENT
    return dataclasses.replace(target, alleles=alleles)


def phased_anew(target: MatchedTarget) -> MatchedTarget:
    """The same calls, marked as phased."""
    return dataclasses.replace(target, phased=np.ones_like(target.phased))


N_PHASED_WINDOWS = 3  # 40 typed sites in windows that start at 0, 12 and 24


def small_windows(bundle: Bundle) -> Imputer:
    """An imputer that phases 16 typed sites at once, 4 of them shared with the next window."""
    imputer = Imputer(bundle)
    imputer.mode = dataclasses.replace(imputer.mode, window_sites=16, overlap_sites=4)
    return imputer


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_unphased_target_has_consistent_probabilities(copying: Bundle, missing: float) -> None:
    target = unphased_target(missing=missing)
    blocks = list(Imputer(copying, mode="fast").impute(target))
    haplotype, genotype = whole(blocks)
    assert (haplotype.shape, genotype.shape) == ((200, 4, 2), (200, 4, 3))
    assert haplotype.min() >= 0
    assert haplotype.max() <= 1
    np.testing.assert_allclose(genotype.sum(axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose(genotype[..., 1] + 2 * genotype[..., 2], haplotype.sum(axis=2), atol=1e-5)
    calls = np.concatenate([b.calls for b in blocks])[TYPED]
    np.testing.assert_array_equal(np.sort(calls, axis=2), target.alleles)


def test_progress_of_phasing_is_a_third_of_the_sites(copying: Bundle) -> None:
    told: list[int] = []
    blocks = small_windows(copying).impute(unphased_target(), sites=(20, 180), progress=told.append)
    next(blocks)
    assert len(told) >= 3
    assert sum(told) == 53
    assert len(list(blocks)) > 1
    assert sum(told) == 160

    del told[:]
    phased = Imputer(copying).phase(unphased_target())
    found = list(Imputer(copying).impute(phased, sites=(20, 180), progress=told.append))
    assert told == [block.stop - block.start for block in found]  # nothing but imputing is left


def test_cancelled_is_called_before_every_phased_and_every_predicted_window(copying: Bundle) -> None:
    class Stopped(Exception):
        pass

    asked: list[int] = []
    blocks = list(small_windows(copying).impute(unphased_target(), cancelled=lambda: asked.append(1)))
    assert len(asked) == N_PHASED_WINDOWS + len(copying.parts[0].windows)
    assert len(blocks) == len(copying.parts[0].windows)

    def stop_before_the_second() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Stopped

    asked.clear()
    told: list[int] = []
    with pytest.raises(Stopped):
        next(small_windows(copying).impute(unphased_target(), progress=told.append, cancelled=stop_before_the_second))
    assert told == [pytest.approx(200 / 3 * 16 / len(TYPED), abs=1)]  # one window was phased


def test_order_of_unphased_alleles_does_not_matter(copying: Bundle) -> None:
    target = unphased_target()
    flipped = dataclasses.replace(target, alleles=target.alleles[..., ::-1].copy())
    for one, other in zip(imputed_fast(copying, target), imputed_fast(copying, flipped), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def imputed_fast(bundle: Bundle, target: MatchedTarget) -> tuple[npt.NDArray[np.float32], ...]:
    return whole(list(Imputer(bundle, mode="fast").impute(target)))


def test_dosages_follow_the_phase_of_the_written_calls(copying: Bundle) -> None:
    """At typed heterozygous calls the haplotype with ALT has the higher dosage."""
    blocks = list(Imputer(copying).impute(unphased_target()))
    calls, (haplotype, _) = np.concatenate([b.calls for b in blocks]), whole(blocks)
    heterozygous = (calls[..., 0] != calls[..., 1]) & (calls >= 0).all(axis=2)
    first = (haplotype[..., 0] - haplotype[..., 1])[heterozygous]
    assert np.mean((first > 0) == (calls[heterozygous, 0] == 1)) > 0.9


def test_homozygous_sample_needs_no_phase(copying: Bundle) -> None:
    target = unphased_target()
    target.alleles[:, 1, 1] = target.alleles[:, 1, 0]
    phased = phased_anew(target)
    for one, other in zip(imputed_fast(copying, target), imputed(copying, phased), strict=True):
        np.testing.assert_allclose(one[:, 1], other[:, 1], atol=1e-5)


@pytest.mark.parametrize("samples", [[0], [2], [3, 1], [3, 2, 1, 0]])
def test_unphased_sample_is_imputed_equally_alone_and_in_any_order(copying: Bundle, samples: list[int]) -> None:
    target = unphased_target(missing=0.1)
    together = imputed_fast(copying, target)
    for one, other in zip(imputed_fast(copying, target.of_samples(np.array(samples))), together, strict=True):
        np.testing.assert_allclose(one, other[:, samples], atol=1e-5)


def test_unphased_file_with_haploid_samples_gives_each_sample_its_own_result(copying: Bundle) -> None:
    target = unphased_target(haploid=[0, 2])
    haplotype, genotype = imputed_fast(copying, target)
    np.testing.assert_allclose(haplotype[:, [0, 2], 0], haplotype[:, [0, 2], 1], atol=1e-6)
    diploid = imputed_fast(copying, unphased_target().of_samples(np.array([1, 3])))
    for one, other in zip((haplotype, genotype), diploid, strict=True):
        np.testing.assert_allclose(one[:, [1, 3]], other, atol=1e-5)
    phased = phased_anew(target).of_samples(np.array([0, 2]))
    np.testing.assert_allclose(haplotype[:, [0, 2]], imputed(copying, phased)[0], atol=1e-5)


def test_one_phasing_gives_the_result_of_a_file_with_that_phase(
    copying: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODES, "one", PhasingMode(states=60, phasings=1))
    target = unphased_target()
    model = copying.model
    assert isinstance(model, CopyingModel)
    model = dataclasses.replace(model, sampled=model.phased)  # or the phasing would be copied with other rates
    copying = dataclasses.replace(copying, model=model)
    drawn = phase_alleles(model.pair, copying.parts[0].reference, target.panel_site, target.alleles, MODES["one"])
    phased = dataclasses.replace(phased_anew(target), alleles=drawn[0])
    found = whole(list(Imputer(copying, mode="one").impute(target)))
    for one, other in zip(found, imputed(copying, phased), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_unphased_interval_has_the_values_of_the_whole(copying: Bundle) -> None:
    target = unphased_target()
    part = whole(list(Imputer(copying, mode="fast").impute(target, sites=(50, 130))))
    for one, other in zip(part, imputed_fast(copying, target), strict=True):
        np.testing.assert_allclose(one, other[50:130], atol=1e-6)


def test_unphased_sample_without_any_call_is_imputed(copying: Bundle) -> None:
    target = unphased_target()
    target.alleles[:, 2] = MISSING
    for values in imputed_fast(copying, target):
        assert np.isfinite(values).all()


def test_ignored_phase_does_not_matter(copying: Bundle) -> None:
    phased = new_target(TARGETS, TYPED)
    found = whole(list(Imputer(copying, mode="fast", ignore_phase=True).impute(phased)))
    for one, other in zip(found, imputed_fast(copying, unphased_target()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(found[0] - imputed(copying, phased)[0]).max() > 1e-3


def test_ignore_phase_is_refused_by_a_variant_that_requires_phase(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the phase") as caught:
        Imputer(saved_bundle(tmp_path, REFERENCE, "v18"), ignore_phase=True)
    assert caught.value.code == "ignore_phase"


def test_unknown_mode_is_refused(copying: Bundle) -> None:
    with pytest.raises(InputError, match="accurate") as caught:
        Imputer(copying, mode="best")
    assert caught.value.code == "mode"


def half_calls(target: MatchedTarget, samples: list[int], *, every: int = 3) -> MatchedTarget:
    """With the second allele of every few calls missing."""
    alleles = target.alleles.copy()
    for sample in samples:
        alleles[sample::every, sample, 1] = MISSING
    return dataclasses.replace(target, alleles=alleles)


def mixed_target() -> MatchedTarget:
    """Samples 0 and 3 phased, 1 and 2 not, half calls in 0 and 2, missing calls in all."""
    target = half_calls(new_target(TARGETS, TYPED), [0, 2])
    target.alleles[np.random.default_rng(6).random(target.alleles.shape[:2]) < 0.1] = MISSING
    target.alleles[:, [1, 2]] = np.sort(target.alleles[:, [1, 2]], axis=2)
    target.phased[:, [1, 2]] = False
    return target


@pytest.mark.parametrize("mode", ["fast", "accurate"])
@pytest.mark.parametrize("sample", range(4))
def test_each_sample_of_a_mixed_file_is_imputed_as_alone(copying: Bundle, sample: int, mode: str) -> None:
    target = mixed_target()
    assert target.unphased.any(axis=0).tolist() == [False, True, True, False]
    together = list(Imputer(copying, mode=mode).impute(target))
    alone = list(Imputer(copying, mode=mode, batch_size=1).impute(target.of_samples(np.array([sample]))))
    for one, other in zip(whole(alone), whole(together), strict=True):
        np.testing.assert_allclose(one[:, 0], other[:, sample], rtol=0, atol=1e-6)
    for block, all_of_it in zip(alone, together, strict=True):
        np.testing.assert_array_equal(block.calls[:, 0], all_of_it.calls[:, sample])


def test_phased_samples_of_a_mixed_file_keep_their_phase(copying: Bundle) -> None:
    target = mixed_target()
    calls = np.concatenate([b.calls for b in Imputer(copying, mode="fast").impute(target)])[TYPED]
    np.testing.assert_array_equal(calls[:, [0, 3]], target.alleles[:, [0, 3]])
    np.testing.assert_array_equal(np.sort(calls, axis=2), np.sort(target.alleles, axis=2))
    found = imputed_fast(copying, target)
    for one, other in zip(found, imputed(copying, target.of_samples(np.array([0, 3]))), strict=True):
        np.testing.assert_allclose(one[:, [0, 3]], other, rtol=0, atol=1e-6)
    anew = whole(list(Imputer(copying, mode="fast", ignore_phase=True).impute(target)))
    assert np.abs(anew[0] - found[0])[:, [0, 3]].max() > 1e-3
    np.testing.assert_allclose(anew[0][:, [1, 2]], found[0][:, [1, 2]], rtol=0, atol=1e-6)


def test_half_calls_without_order_are_missing_in_a_phased_sample(bundle: Bundle) -> None:
    target = half_calls(new_target(TARGETS, TYPED), [1])
    half = target.alleles == MISSING
    ordered = imputed(bundle, target)
    missing = dataclasses.replace(target, alleles=np.where(half.any(axis=2, keepdims=True), MISSING, target.alleles))
    without = dataclasses.replace(target, phased=~half.any(axis=2))
    for one, other in zip(imputed(bundle, without), imputed(bundle, missing), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(ordered[0] - imputed(bundle, missing)[0])[:, 1].max() > 1e-3
