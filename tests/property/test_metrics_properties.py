"""Accumulators give the same figures however their input is cut, and whoever's share is merged."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcfbert.metrics.accuracy import DosageR2, F1Counter, SiteScores

Case = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Truth (some missing) and dosages [l, n], panel frequencies [l]."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sites, samples = draw(st.integers(1, 30)), draw(st.integers(2, 12))
    af = rng.choice([0.0, 0.001, 0.007, 0.03, 0.2, 0.5, 0.93, 0.9999, 1.0], sites)
    truth = rng.binomial(2, af[:, None], (sites, samples))
    truth[rng.random(truth.shape) < 0.1] = -1
    return truth, np.clip(truth + rng.normal(0, 0.4, truth.shape), 0, 2), af


@given(case=cases(), cut=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_site_scores_in_blocks_equal_those_of_the_whole(case: Case, cut: int) -> None:
    truth, dosage, af = case
    estimate = np.where(af == 0.2, np.nan, dosage[:, 0] / 2)
    whole, first, second = SiteScores(), SiteScores(), SiteScores()
    whole.update(truth, dosage, af, estimated_r2=estimate)
    first.update(truth[:cut], dosage[:cut], af[:cut], estimated_r2=estimate[:cut])
    second.update(truth[cut:], dosage[cut:], af[cut:], estimated_r2=estimate[cut:])
    first.merge(second)
    for one, other in zip(whole.rows(), first.rows(), strict=True):
        for name, value in one.as_dict().items():
            if isinstance(value, float):
                assert other.as_dict()[name] == pytest.approx(value, abs=2e-6), name


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_dosage_r2_equals_numpy_and_that_of_site_scores(case: Case) -> None:
    truth, dosage, af = case
    r2, scores = DosageR2(), SiteScores()
    half = truth.shape[1] // 2
    r2.update(truth[:, :half], dosage[:, :half], af)
    other = DosageR2()
    other.update(truth[:, half:], dosage[:, half:], af)
    r2.merge(other)
    scores.update(truth, dosage, af)
    varies = (af > 0) & (af < 1)
    flip = (af > 0.5)[:, None]
    t = np.where(flip, 2 - truth, truth)[varies]
    d = np.where(flip, 2 - dosage, dosage)[varies]
    valid = truth[varies] >= 0
    if valid.sum() > 1 and t[valid].std() > 0 and d[valid].std() > 1e-6:
        expected = np.corrcoef(t[valid], d[valid])[0, 1] ** 2
        assert r2.values()["all"] == pytest.approx(expected, abs=1e-9)
        assert scores.rows()[-1].aggregate_r2 == pytest.approx(expected, abs=1e-9)


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_figures_stay_in_their_range(case: Case) -> None:
    scores = SiteScores()
    scores.update(*case)
    for row in scores.rows():
        for name in ("aggregate_r2", "mean_site_r2", "nonref_concordance", "minor_f1", "calibration_error"):
            value = getattr(row, name)
            assert math.isnan(value) or -1e-12 <= value <= 1 + 1e-9, name
        assert math.isnan(row.iqs) or row.iqs <= 1 + 1e-9


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_f1_merges_and_matches_its_definition(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (8, 2, 15)).astype(np.uint8)
    probability, where = rng.random(truth.shape), rng.random(truth.shape) < 0.7
    maf = rng.choice([0.01, 0.2], 15)
    one, other = F1Counter(), F1Counter()
    one.update(truth[:cut], probability[:cut], maf, where[:cut])
    other.update(truth[cut:], probability[cut:], maf, where[cut:])
    one.merge(other)
    rare = where & (maf < 0.05)
    for value, counted in ((one.f1, where), (one.rare_f1, rare)):
        t, p = truth[counted] == 1, probability[counted] >= 0.5
        expected = 2 * (t & p).sum() / max(t.sum() + p.sum(), 1)
        assert value == pytest.approx(expected)
