"""V19's parameters: rates and mixture weights of the heads by hand, and the model as arrays and back."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tiny import perturbed_copying_model
from vcfbert.copying.mixture import (
    FIRST_RATES,
    FIRST_WEIGHTS,
    HEADS,
    KNOTS,
    MAX_MISMATCH,
    MIN_SWITCH,
    CopyingModel,
    Mixture,
    Rates,
    inherited,
    knot_weights,
    prior,
)
from vcfbert.kernels import Doubles

CM = np.array([2.0, 2.1, 2.1, 2.6])
FLAT = np.array([1.0, 1.0, 1.0 + 1e-12])


def weights_of(mixture: Mixture, af: list[float]) -> Doubles:
    """Mixture weights [l, heads] at sites of these ALT frequencies."""
    return mixture.heads(CM, np.full(4, 0.5), np.array(af)).mixture.T


def test_stay_by_hand() -> None:
    found = Rates(6.0, 0.01).stay(CM)
    np.testing.assert_allclose(found, [0.0, np.exp(-0.6), 1.0 - MIN_SWITCH, np.exp(-3.0)], rtol=1e-6)
    assert found.dtype == np.float32


def test_switch_stays_possible_on_a_flat_map() -> None:
    stay = Rates(6.0, 0.01).stay(FLAT)
    np.testing.assert_allclose(1.0 - stay[1:].astype(np.float64), MIN_SWITCH, rtol=0.05)
    assert Rates(6.0, 0.01).stay(CM[:1]).tolist() == [0.0]


def test_rates_of_heads_are_multiples() -> None:
    heads = Mixture.first(Rates(5.0, 0.002)).heads(CM, np.full(4, 0.5), np.array([0.1, 0.2]))
    for number, (rate, mismatch) in enumerate(HEADS):
        own = Rates(5.0 * rate, 0.002 * mismatch)
        np.testing.assert_array_equal(heads.stay[number], own.stay(CM))
        np.testing.assert_allclose(heads.mismatch[number], own.mismatch, rtol=1e-6)
    assert (heads.stay.shape, heads.mismatch.shape, heads.mixture.shape) == ((3, 4), (3, 4), (3, 2))


def test_mismatch_of_a_head_is_limited() -> None:
    factor = HEADS[1][1]
    assert Rates(5.0, 0.9 * MAX_MISMATCH / factor).of_head(1).mismatch == pytest.approx(0.9 * MAX_MISMATCH)
    assert Rates(5.0, 2.0 * MAX_MISMATCH / factor).of_head(1).mismatch == MAX_MISMATCH


def test_mixture_weights_are_interpolated_between_knots() -> None:
    weights = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0.5, 0.5], [0.4, 0.3, 0.3]])
    mixture = Mixture(FIRST_RATES, weights)
    halfway = 10 ** ((KNOTS[0] + KNOTS[1]) / 2)
    found = weights_of(mixture, [halfway, 1 - 10 ** KNOTS[3], 1e-9, 0.5])
    expected = [[0.5, 0.5, 0], [0, 0.5, 0.5], [1.0, 0, 0], [0.4, 0.3, 0.3]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_at_typed_sites_are_those_of_their_frequencies() -> None:
    mixture = perturbed_copying_model().phased
    af = np.array([0.001, 0.3, 0.02, 0.9])
    heads = mixture.heads(CM, af, af)
    np.testing.assert_array_equal(heads.key_mixture, heads.mixture)
    np.testing.assert_allclose(heads.mixture.sum(axis=0), 1.0, rtol=1e-6)
    assert np.ptp(heads.mixture, axis=1).max() > 0.01


def test_first_mixture_has_the_same_weights_at_all_frequencies() -> None:
    found = weights_of(Mixture.first(), [1e-4, 0.01, 0.3, 0.99])
    np.testing.assert_allclose(found, np.tile(FIRST_WEIGHTS, (4, 1)), rtol=1e-6)


def test_knot_weights_interpolate_in_log_maf() -> None:
    maf = np.logspace(-6, np.log10(0.5), 200)
    weights = knot_weights(maf)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    assert (weights >= 0).all()
    assert ((weights > 0).sum(axis=1) <= 2).all()
    np.testing.assert_allclose(weights @ np.array(KNOTS), np.log10(maf).clip(KNOTS[0], KNOTS[-1]), atol=1e-12)
    np.testing.assert_allclose(knot_weights(10 ** np.array(KNOTS)), np.eye(len(KNOTS)), atol=1e-12)
    assert knot_weights(np.array([0.0, 0.5])).tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


def test_phased_and_sampled_mixtures_are_separate() -> None:
    model = perturbed_copying_model()
    assert model.mixture(sampled=False) is model.phased
    assert model.mixture(sampled=True) is model.sampled
    first = CopyingModel.first()
    assert first.pair == first.phased.rates == first.sampled.rates == FIRST_RATES


def test_inheritance_by_hand() -> None:
    """A copied ALT is lost, and a copied REF becomes ALT, one time in ten thousand."""
    copied = np.array([0.0, 0.25, 1.0], np.float32)
    found = inherited(copied)
    np.testing.assert_allclose(found, [1e-4, 0.25 * 0.9999 + 0.75 * 1e-4, 0.9999], rtol=1e-6)
    assert found is copied
    assert found.dtype == np.float32


def test_prior_by_hand() -> None:
    """softmax(-2 d) of the fractions of mismatches: 0, 1/4 and 1/2 of eight calls, and of one call."""
    found = prior(np.array([[0, 2, 4], [0, 0, 1]]), np.array([8, 1]))
    for row, fractions in zip(found, ([0.0, 0.25, 0.5], [0.0, 0.0, 1.0]), strict=True):
        weights = np.exp(-2.0 * np.array(fractions))
        np.testing.assert_allclose(row, weights / weights.sum(), rtol=1e-6)
    assert found.dtype == np.float32


def test_no_typed_call_gives_flat_prior() -> None:
    np.testing.assert_allclose(prior(np.zeros((1, 5), int), np.array([0])), np.full((1, 5), 0.2), rtol=1e-6)


def test_arrays_give_the_same_model() -> None:
    model = perturbed_copying_model()
    arrays = model.as_arrays()
    again = CopyingModel.from_arrays(arrays)
    for name, array in again.as_arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
        assert array.dtype == np.float64
    assert (again.phased.rates, again.sampled.rates, again.pair) == (
        model.phased.rates,
        model.sampled.rates,
        model.pair,
    )
    assert len({again.phased.rates, again.sampled.rates, again.pair}) == 3
    assert model.n_parameters == 6 + 2 * len(KNOTS) * len(HEADS)


@pytest.mark.parametrize("name", ["rates", "phased_weights", "sampled_weights"])
def test_missing_added_or_misshapen_array_is_refused(name: str) -> None:
    arrays = perturbed_copying_model().as_arrays()
    others = {other: array for other, array in arrays.items() if other != name}
    for wrong in (others, {**arrays, "more": arrays[name]}, {**arrays, name: arrays[name][:-1]}, {}):
        with pytest.raises(ValueError, match="expected"):
            CopyingModel.from_arrays(wrong)


@pytest.mark.parametrize("name", ["rates", "phased_weights", "sampled_weights"])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_negative_or_infinite_value_is_refused(name: str, value: float) -> None:
    arrays = {other: array.copy() for other, array in perturbed_copying_model().as_arrays().items()}
    arrays[name][1, 1] = value
    with pytest.raises(ValueError, match="negative or not finite"):
        CopyingModel.from_arrays(arrays)


@pytest.mark.parametrize("mismatch", [0.0, 0.6])
def test_mismatch_out_of_range_is_refused(mismatch: float) -> None:
    arrays = perturbed_copying_model().as_arrays()
    arrays["rates"][2, 1] = mismatch
    with pytest.raises(ValueError, match="mismatch must lie"):
        CopyingModel.from_arrays(arrays)


@pytest.mark.parametrize("name", ["phased_weights", "sampled_weights"])
def test_mixture_weights_of_another_sum_are_refused(name: str) -> None:
    arrays = perturbed_copying_model().as_arrays()
    with pytest.raises(ValueError, match="sum to 1"):
        CopyingModel.from_arrays({**arrays, name: 0.9 * arrays[name]})
