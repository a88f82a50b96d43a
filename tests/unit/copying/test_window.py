"""Windows made ready for the HMM: against the plain algorithm, and their parts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.li_stephens import dosages
from tests.helpers.tiny import panel_from_alleles, perturbed_copying_model, random_panel
from vcfbert.copying.haploid import Copied
from vcfbert.copying.li_stephens import Problem, posteriors
from vcfbert.copying.mixture import HEADS, PRIOR_STRENGTH, Mixture
from vcfbert.copying.window import HmmWindow, key_place, place_between
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.kernels import Calls, Doubles, Indices, Numbers

PANEL = random_panel(12, 40, seed=1)
REFERENCE = ReferenceSubset(PANEL, np.arange(4, 24))
SITES = slice(4, 36)
EVERY_THIRD = np.arange(0, 40, 3)
MIXTURE = perturbed_copying_model().phased
# A site inside the window, one on either side of it, none inside, both ends, every site.
TYPED = [[20], [0], [39], [1, 2, 37, 38], [4, 5, 34, 35], list(range(40))]


def calls_at(key: Indices, *, n: int = 6, missing: float = 0.0, seed: int = 0) -> Calls:
    """Calls [t, n] of the panel's first haplotypes, some of them missing."""
    calls = PANEL.alleles(key, np.arange(n)).T.astype(np.int8)
    calls[np.random.default_rng(seed).random(calls.shape) < missing] = -1
    return np.ascontiguousarray(calls)


def chosen_at_random(*, n: int = 6, k: int = 5, seed: int = 0) -> Numbers:
    rng = np.random.default_rng(seed)
    return np.stack([np.sort(rng.permutation(len(REFERENCE))[:k]) for _ in range(n)]).astype(np.int32)


def copied(ready: HmmWindow, calls: Calls, chosen: Numbers, mixture: Mixture = MIXTURE) -> Copied:
    return ready.targets(calls, chosen).copied(ready.heads(mixture), ready.fraction)


def plain(key: Indices, calls: Calls, chosen: Numbers, mixture: Mixture = MIXTURE) -> Doubles:
    """Dosages [n, l] at ``SITES`` by the definition of the model, from the panel's alleles and map."""
    cm, key_cm = PANEL.cm[SITES], PANEL.cm[key]
    fraction = np.zeros(len(cm))
    for site in range(len(cm)):
        right = int((key < site + SITES.start).sum())  # the first typed site at or beyond it
        if 0 < right < len(key):
            fraction[site] = (cm[site] - key_cm[right - 1]) / (key_cm[right] - key_cm[right - 1])
    weights = mixture.heads(key_cm, REFERENCE.af[key], REFERENCE.af[SITES]).mixture
    out = np.zeros((len(chosen), len(cm)))
    for target, states in enumerate(chosen):
        rows = REFERENCE.haplotypes[states]
        key_alleles = PANEL.alleles(key, rows).T
        called = calls[:, target] >= 0
        differing = (key_alleles != calls[:, [target]])[called].sum(axis=0) / max(called.sum(), 1)
        prior = np.exp(-PRIOR_STRENGTH * differing)
        prior /= prior.sum()
        for head in range(len(HEADS)):
            rates = mixture.rates.of_head(head)
            stay = np.append(0.0, np.exp(-rates.switches_per_cm * np.diff(key_cm)))
            mismatch = np.full(len(key), rates.mismatch)
            posterior = posteriors(Problem(calls[:, target], key_alleles, prior, stay, mismatch))
            out[target] += weights[head] * dosages(posterior, PANEL.alleles(SITES, rows), key - SITES.start, fraction)
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_copied_dosages_equal_plain_algorithm(seed: int, missing: float) -> None:
    ready = HmmWindow.of(REFERENCE, SITES, EVERY_THIRD)
    calls, chosen = calls_at(EVERY_THIRD, missing=missing, seed=seed), chosen_at_random(seed=seed)
    mixture = perturbed_copying_model(seed=seed).phased
    found = copied(ready, calls, chosen, mixture).dosage
    np.testing.assert_allclose(found, plain(EVERY_THIRD, calls, chosen, mixture), atol=1e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize("typed", TYPED)
def test_copied_dosages_equal_plain_algorithm_for_any_typed_sites(typed: list[int]) -> None:
    key = np.array(typed)
    ready = HmmWindow.of(REFERENCE, SITES, key)
    calls, chosen = calls_at(key), chosen_at_random()
    np.testing.assert_allclose(copied(ready, calls, chosen).dosage, plain(key, calls, chosen), atol=1e-5)


@pytest.mark.parametrize("typed", [*TYPED, EVERY_THIRD.tolist()])
@pytest.mark.parametrize("sites", [[7], [4, 5, 17, 30, 35], [6, 9, 12], [20, 39]])
def test_chosen_sites_have_the_dosages_of_the_whole_window(sites: list[int], typed: list[int]) -> None:
    key, place = np.array(typed), np.array(sites)
    calls, chosen = calls_at(key, missing=0.2), chosen_at_random()
    few = copied(HmmWindow.of(REFERENCE, place, key), calls, chosen)
    every = copied(HmmWindow.of(REFERENCE, slice(0, 40), key), calls, chosen)
    np.testing.assert_allclose(few.dosage, every.dosage[:, place], atol=1e-6)
    np.testing.assert_array_equal(few.loo, every.loo)


def test_loo_of_a_site_equals_dosage_with_its_call_missing() -> None:
    key = np.arange(4, 36)
    ready = HmmWindow.of(REFERENCE, SITES, key)
    calls, chosen = calls_at(key), chosen_at_random()
    # Flat, because the model's prior depends on the call too.
    targets = replace(ready.targets(calls, chosen), prior=np.full((6, 5), 0.2, np.float32))
    heads = ready.heads(MIXTURE)
    loo = targets.copied(heads, ready.fraction).loo
    for site in (0, 13, 31):
        without = calls.copy()
        without[site] = -1
        dosage = replace(targets, calls=without).copied(heads, ready.fraction).dosage
        np.testing.assert_allclose(loo[:, site], dosage[:, site], atol=1e-5)


def test_target_without_typed_call_gets_mean_of_its_states() -> None:
    ready = HmmWindow.of(REFERENCE, SITES, EVERY_THIRD)
    calls, chosen = np.full((len(EVERY_THIRD), 6), -1, np.int8), chosen_at_random()
    np.testing.assert_allclose(ready.targets(calls, chosen).prior, 0.2, rtol=1e-6)
    mean = REFERENCE.alleles(SITES)[chosen].mean(axis=1)
    np.testing.assert_allclose(copied(ready, calls, chosen).dosage, mean, atol=1e-5)


def test_target_does_not_depend_on_its_company() -> None:
    ready = HmmWindow.of(REFERENCE, SITES, EVERY_THIRD)
    calls, chosen = calls_at(EVERY_THIRD, missing=0.1), chosen_at_random()
    together = copied(ready, calls, chosen)
    for few in ([2], [4, 1], [5, 4, 3, 2, 1, 0]):
        alone = copied(ready, np.ascontiguousarray(calls[:, few]), chosen[few])
        np.testing.assert_allclose(alone.dosage, together.dosage[few], atol=1e-6)
        np.testing.assert_allclose(alone.loo, together.loo[few], atol=1e-6)


def test_exchanged_untyped_alleles_exchange_dosages() -> None:
    """REF and ALT exchanged at untyped sites; mixture weights depend on the rarer allele's frequency."""
    untyped = np.setdiff1d(np.arange(40), EVERY_THIRD)
    alleles = PANEL.alleles(slice(None))
    alleles[:, untyped] ^= 1
    exchanged = ReferenceSubset(panel_from_alleles(alleles), REFERENCE.haplotypes)
    calls, chosen = calls_at(EVERY_THIRD), chosen_at_random()
    before, after = (
        copied(HmmWindow.of(reference, untyped, EVERY_THIRD), calls, chosen) for reference in (REFERENCE, exchanged)
    )
    np.testing.assert_allclose(after.dosage, 1.0 - before.dosage, atol=1e-5)


def test_switch_is_possible_on_a_flat_map() -> None:
    """The target's first twenty calls are of the first haplotype, the next twenty of the second."""
    alleles = np.array([[1] * 80, [0] * 80], np.uint8)
    flat = ReferenceSubset(panel_from_alleles(alleles, cm=np.zeros(80)), np.arange(2))
    ready = HmmWindow.of(flat, slice(0, 80), np.arange(0, 80, 2))
    calls = np.repeat(np.array([1, 0], np.int8), 20)[:, None]
    found = copied(ready, calls, np.array([[0, 1]], np.int32), Mixture.first()).dosage[0]
    assert found[:36].min() > 0.99
    assert found[44:].max() < 0.01


def test_states_exclude_rows_and_ascend() -> None:
    ready = HmmWindow.of(REFERENCE, SITES, EVERY_THIRD)
    calls = calls_at(EVERY_THIRD, n=8)
    own = REFERENCE.rows_of_sample(np.arange(8))  # -1 for the first four, which are not in the subset
    found = ready.states(calls, 6, exclude=own)
    assert (found.shape, found.dtype) == ((8, 6), np.int32)
    assert (np.diff(found, axis=1) > 0).all()
    assert not (found[:, :, None] == own[:, None]).any()
    free = ready.states(calls, 6)
    np.testing.assert_array_equal(found[:4], free[:4])
    assert (free[4:] == np.arange(4)[:, None]).any(axis=1).all()  # its own haplotype matches everywhere


def test_place_between_by_hand() -> None:
    """Sites 0 to 5. Typed are one site before the window and sites 1 and 4."""
    cm = np.array([0.0, 0.2, 0.3, 0.3, 0.7, 0.9])
    found = place_between(cm, np.array([-0.3, 0.2, 0.7]), np.array([-2, 1, 4]))
    np.testing.assert_allclose(found, [0.6, 1.0, 0.2, 0.2, 1.0, 0.0], rtol=1e-6)
    assert found.dtype == np.float32


def test_place_between_typed_sites_at_one_position() -> None:
    found = place_between(np.array([0.0, 0.1, 0.1, 0.1]), np.array([0.1, 0.1]), np.array([1, 3]))
    assert found[:2].tolist() == [1.0, 1.0]
    assert ((found >= 0) & (found <= 1)).all()


def test_key_place_among_a_slice_and_among_chosen_sites_by_hand() -> None:
    key = np.array([1, 4, 10, 12])
    assert key_place(slice(4, 12), key).tolist() == [-3, 0, 6, 8]
    assert key_place(np.array([4, 5, 11]), key).tolist() == [-1, 0, 1, 2]
