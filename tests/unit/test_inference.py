from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.tiny import perturbed, random_panel, target_of, tiny_config
from vcfbert.bundle import Bundle, load_bundle, save_bundle
from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import InputError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.genotypes.store import subset_panel
from vcfbert.inference import Imputer
from vcfbert.model.variants import create

PANEL = random_panel(40, 200, seed=1)
REFERENCE = subset_panel(PANEL, samples=list(range(30)))
TARGETS = [31, 33, 36, 39]
TYPED = np.arange(1, 200, 5)


@pytest.fixture(scope="module", params=["v17", "v18"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return saved_bundle(tmp_path_factory.mktemp("bundle"), REFERENCE, request.param)


def saved_bundle(folder: Path, panel: Panel, variant: str, k: int = 8) -> Bundle:
    config = tiny_config({"retrieval": {"k": {"v17": min(k, 2), "v18": k}}})
    save_bundle(folder / variant, perturbed(variant, config.model), panel, config, metrics={}, data={})
    return load_bundle(folder / variant)


def whole(blocks: list[ImputedBlock]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Haplotype dosages [l, n, 2] and genotype probabilities [l, n, 3] of all blocks, which must tile their sites."""
    for before, after in pairwise(blocks):
        assert before.stop == after.start
    for block in blocks:
        assert len(block.haplotype_dosage) == block.stop - block.start > 0
    genotypes = [block.genotype_probability for block in blocks]
    assert all(g is not None for g in genotypes)
    return np.concatenate([b.haplotype_dosage for b in blocks]), np.concatenate(genotypes)  # type: ignore[arg-type]


def imputed(bundle: Bundle, target: MatchedTarget, **options: int) -> tuple[npt.NDArray[np.float32], ...]:
    return whole(list(Imputer(bundle, **options).impute(target)))


def of_samples(target: MatchedTarget, samples: list[int]) -> MatchedTarget:
    return dataclasses.replace(
        target, samples=tuple(target.samples[s] for s in samples), alleles=target.alleles[:, samples]
    )


def test_blocks_tile_the_sites_and_hold_laws(bundle: Bundle) -> None:
    steps: list[int] = []
    target = target_of(PANEL, TARGETS, TYPED)
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
    target = target_of(PANEL, TARGETS, TYPED)
    target.alleles[3, 1] = MISSING
    calls = np.concatenate([b.calls for b in Imputer(bundle).impute(target)])
    assert (calls[np.setdiff1d(np.arange(200), TYPED)] == MISSING).all()
    assert np.array_equal(calls[TYPED], target.alleles)


def test_a_haploid_sample_is_imputed_as_its_one_haplotype(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    diploid, _ = imputed(bundle, target)
    target.alleles[:, 1, 1] = ABSENT
    haploid, _ = imputed(bundle, target)
    np.testing.assert_allclose(haploid[:, 1, 0], diploid[:, 1, 0], atol=1e-5)
    np.testing.assert_allclose(haploid[:, 1, 1], diploid[:, 1, 0], atol=1e-5)
    np.testing.assert_allclose(haploid[:, [0, 2, 3]], diploid[:, [0, 2, 3]], atol=1e-5)


def test_an_unphased_target_is_refused_with_what_to_do(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    target.phased[:10] = False
    with pytest.raises(
        InputError, match=r"25% of the target's typed sites.*\n.*hint: phase it first.*beagle"
    ) as caught:
        next(Imputer(bundle).impute(target))
    assert caught.value.code == "unphased"


def test_a_sample_is_imputed_alike_alone_among_others_and_in_any_batch(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    together = imputed(bundle, target)
    for batch_size in (1, 3):
        for one, other in zip(imputed(bundle, target, batch_size=batch_size), together, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    for place in range(4):
        for one, other in zip(imputed(bundle, of_samples(target, [place])), together, strict=True):
            np.testing.assert_allclose(one[:, 0], other[:, place], atol=1e-5)


def test_missing_calls_of_one_sample_leave_the_others_as_they_are(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    holes = dataclasses.replace(target, alleles=target.alleles.copy())
    holes.alleles[::2, 1] = MISSING
    holes.alleles[1, 1, 0] = MISSING  # half a call
    before, after = imputed(bundle, target), imputed(bundle, holes)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one[:, [0, 2, 3]], other[:, [0, 2, 3]], atol=1e-5)
        assert np.abs(one[:, 1] - other[:, 1]).max() > 1e-3
        assert np.isfinite(other).all()


def test_a_site_missing_in_all_samples_is_as_untyped(bundle: Bundle) -> None:
    """Where the key holds enough other sites. (Whether it reaches out for more is decided by the file's sites, so
    that a sample's result does not depend on what other samples miss.)"""
    dense = np.arange(0, 200, 2)
    holes = target_of(PANEL, TARGETS, dense)
    holes.alleles[::2] = MISSING
    fewer = target_of(PANEL, TARGETS, dense[1::2])
    for one, other in zip(imputed(bundle, holes), imputed(bundle, fewer), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_sample_without_any_call_is_imputed(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    target.alleles[:, 2] = MISSING
    for values in imputed(bundle, target):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("interval", [(0, 1), (3, 77), (60, 130), (128, 200), (199, 200)])
def test_an_interval_has_the_numbers_of_the_whole(bundle: Bundle, interval: tuple[int, int]) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    blocks = list(Imputer(bundle).impute(target, sites=interval))
    assert (blocks[0].start, blocks[-1].stop) == interval
    for one, other in zip(whole(blocks), imputed(bundle, target), strict=True):
        np.testing.assert_array_equal(one, other[slice(*interval)])


@pytest.mark.parametrize("typed", [[100], [0], [5, 199], [10, 11, 12]])
def test_very_few_typed_sites(bundle: Bundle, typed: list[int]) -> None:
    """One site in all, or none within most windows: the nearest ones there are serve as the key."""
    haplotype, genotype = imputed(bundle, target_of(PANEL, TARGETS, np.array(typed)))
    assert np.isfinite(haplotype).all()
    np.testing.assert_allclose(genotype.sum(axis=2), 1.0, atol=1e-5)


def test_swapping_a_samples_haplotypes_swaps_its_results(bundle: Bundle) -> None:
    target = target_of(PANEL, TARGETS, TYPED)
    swapped = dataclasses.replace(target, alleles=target.alleles[..., ::-1].copy())
    one, other = imputed(bundle, target), imputed(bundle, swapped)
    np.testing.assert_allclose(other[0][..., ::-1], one[0], atol=1e-5)
    np.testing.assert_allclose(other[1], one[1], atol=1e-5)


def test_a_panels_own_sample_comes_back(tmp_path: Path) -> None:
    """Its own haplotypes are the nearest: with K = 1 the untrained vote is its own alleles."""
    config = tiny_config({"retrieval": {"k": {"v17": 1, "v18": 1}}})
    save_bundle(tmp_path / "b", create("v18", config.model), REFERENCE, config, metrics={}, data={})
    haplotype, _ = imputed(load_bundle(tmp_path / "b"), target_of(REFERENCE, [4, 9], TYPED))
    truth = REFERENCE.alleles(slice(None), np.array([8, 9, 18, 19])).T.reshape(200, 2, 2)
    assert np.array_equal(haplotype >= 0.5, truth == 1)
