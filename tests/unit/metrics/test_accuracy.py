from __future__ import annotations

import numpy as np
import pytest

from vcfbert.constants import MAF_BIN_NAMES
from vcfbert.metrics.accuracy import DosageR2, F1Counter, SiteScores, genotype_probabilities, maf_bin


def test_maf_bin_is_half_open_and_excludes_constant_sites() -> None:
    af = [0.0, 0.004, 0.005, 0.01, 0.05, 0.5, 0.96, 0.997, 1.0]
    assert maf_bin(af).tolist() == [-1, 0, 1, 2, 3, 3, 2, 0, -1]


def test_f1_counts_all_and_rare_sites() -> None:
    truth = np.array([[1, 0, 1], [1, 1, 0]], dtype=np.uint8)  # [haplotype, site]
    probability = np.array([[0.9, 0.6, 0.2], [0.5, 0.7, 0.1]])
    counter = F1Counter()
    counter.update(truth, probability, maf=[0.3, 0.3, 0.01])
    # Called: 3 true, 1 false positive, 1 false negative; the false negative is the only ALT at the rare site.
    assert counter.f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert counter.rare_f1 == 0.0


def test_f1_with_where_counts_only_those_alleles() -> None:
    truth = np.array([[[1, 1], [1, 0]]], dtype=np.uint8)  # [sample, haplotype, site]
    probability = np.array([[[1, 0], [1, 1]]])
    by_site, by_cell = F1Counter(), F1Counter()
    by_site.update(truth, probability, [0.2, 0.2], where=np.array([True, False]))
    by_cell.update(truth, probability, [0.2, 0.2], where=np.array([[[True, True], [False, False]]]))
    assert by_site.f1 == 1.0
    assert by_cell.f1 == pytest.approx(2 / 3)


def test_f1_without_any_alt_is_zero_and_finite() -> None:
    assert F1Counter().values() == {"f1": 0.0, "rare_f1": 0.0}


def test_dosage_r2_is_squared_pearson_over_all_pairs_of_the_bin() -> None:
    truth = np.array([[0, 1, 2, 0], [1, 0, 0, 1]])
    dosage = np.array([[0.1, 1.2, 1.7, 0.0], [0.6, 0.2, 0.1, 0.9]])
    r2 = DosageR2()
    r2.update(truth, dosage, af=[0.2, 0.3])
    expected = np.corrcoef(truth.ravel(), dosage.ravel())[0, 1] ** 2
    assert r2.values() == pytest.approx({MAF_BIN_NAMES[3]: expected, "all": expected})


def test_dosage_r2_orients_to_minor_allele_and_excludes_missing_truth() -> None:
    truth = np.array([[2, 1, 2, -1], [0, 1, 0, 2]])  # the first site's minor allele is REF
    dosage = np.array([[1.9, 1.2, 2.0, 0.3], [0.1, 0.7, 0.0, 1.5]])
    r2 = DosageR2()
    r2.update(truth, dosage, af=[0.9, 0.1])
    expected = np.corrcoef([0, 1, 0, 0, 1, 0, 2], [0.1, 0.8, 0.0, 0.1, 0.7, 0.0, 1.5])[0, 1] ** 2
    assert r2.values()["all"] == pytest.approx(expected)


@pytest.mark.parametrize("dosage", [0.0, 0.3, 1.0])
def test_constant_dosage_has_r2_of_zero(dosage: float) -> None:
    truth = np.tile([0, 1, 2, 1, 0, 0, 1], (40, 1))
    r2, scores = DosageR2(), SiteScores()
    for accumulator in (r2, scores):
        accumulator.update(truth, np.full(truth.shape, dosage), np.full(40, 0.2))
    assert r2.values()["all"] == 0.0
    assert scores.rows()[-1].aggregate_r2 == 0.0
    assert scores.rows()[-1].mean_site_r2 == 0.0


def test_site_scores_by_hand() -> None:
    truth = np.array([[0, 1, 2, 0], [0, 0, 0, 0]])
    dosage = np.array([[0.0, 1.4, 1.6, 0.6], [0.0, 0.0, 0.0, 0.2]])
    scores = SiteScores()
    scores.update(truth, dosage, af=[0.2, 0.2])
    row = scores.rows()[-1]
    assert (row.sites, row.polymorphic_sites) == (2, 1)
    assert row.mean_site_r2 == pytest.approx(np.corrcoef(truth[0], dosage[0])[0, 1] ** 2)
    # Calls 0 1 2 1: of the three pairs with the allele in truth or call, two agree.
    assert row.nonref_concordance == pytest.approx(2 / 3)
    assert row.minor_f1 == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_iqs_is_agreement_beyond_chance() -> None:
    truth = np.array([[0, 0, 1, 1]])
    probability = np.array([[[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]]])
    scores = SiteScores()
    scores.update(truth, probability @ np.arange(3), [0.25], probability)
    # Po = 3/4; imputed genotypes 0 and 1 weigh 1/2 each, as the true ones do, so Pc = 1/2.
    assert scores.rows()[-1].iqs == pytest.approx((0.75 - 0.5) / (1 - 0.5))


def test_iqs_is_the_same_with_ref_and_alt_exchanged() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (20, 30))
    probability = rng.dirichlet([1, 1, 1], (20, 30))
    here, there = SiteScores(), SiteScores()
    here.update(truth, probability @ np.arange(3), np.full(20, 0.3), probability)
    there.update(2 - truth, 2 - probability @ np.arange(3), np.full(20, 0.7), probability[..., ::-1])
    assert there.rows()[-1].iqs == pytest.approx(here.rows()[-1].iqs)


def test_missing_genotype_probabilities_follow_from_the_dosage() -> None:
    assert genotype_probabilities([0.0, 0.25, 1.5]).tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 0.5, 0.5]]
    truth, dosage = np.array([[0, 1, 2]]), np.array([[0.2, 1.0, 1.7]])
    given = np.full((1, 3, 3), np.nan)
    with_nan, without = SiteScores(), SiteScores()
    with_nan.update(truth, dosage, [0.3], given)
    without.update(truth, dosage, [0.3])
    assert with_nan.rows() == without.rows()


def test_calibration_compares_predicted_with_observed_in_tenths() -> None:
    truth = np.array([[0, 1, 2, 2]])
    dosage = np.array([[0.1, 0.1, 1.9, 2.0]])  # probabilities .05 .05 .95 1
    scores = SiteScores()
    scores.update(truth, dosage, [0.4])
    low, high = scores.rows()[-1].calibration
    assert (low.predicted, low.observed, low.pairs) == (pytest.approx(0.05), 0.25, 2)
    assert (high.predicted, high.observed, high.pairs) == (pytest.approx(0.975), 1.0, 2)
    assert scores.rows()[-1].calibration_error == pytest.approx((2 * 0.2 + 2 * 0.025) / 4)


def test_undefined_figures_are_none_in_json() -> None:
    scores = SiteScores()
    scores.update(np.zeros((1, 3)), np.zeros((1, 3)), [0.2])
    row = scores.rows()[-1].as_dict()
    assert row["mean_site_r2"] is None
    assert row["nonref_concordance"] is None
    assert row["aggregate_r2"] == 0.0


def test_site_scores_without_sites_have_no_rows() -> None:
    scores = SiteScores()
    scores.update(np.zeros((2, 3)), np.zeros((2, 3)), [0.0, 1.0])
    assert scores.rows() == []
    assert DosageR2().values() == {}


def test_estimates_are_compared_with_r2_at_the_same_sites_by_hand() -> None:
    truth = np.array([[0, 1, 2, 0], [0, 1, 1, 0], [0, 2, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    dosage = np.array(
        [[0.0, 1.4, 1.6, 0.6], [0.2, 0.9, 0.3, 0.1], [0.5, 0.9, 0.8, 0.4], [0.0, 0.3, 0.0, 0.0], [1.0, 0, 0, 1]]
    )
    estimate = [0.9, 0.7, 0.1, 0.4, np.nan]  # of the fourth there is no r2, of the fifth no estimate
    scores = SiteScores()
    scores.update(truth[:2], dosage[:2], [0.2, 0.004], estimated_r2=estimate[:2])
    scores.update(truth[2:], dosage[2:], [0.9, 0.2, 0.2], estimated_r2=estimate[2:])
    r2 = [np.corrcoef(truth[i], dosage[i])[0, 1] ** 2 for i in range(3)]
    rare, common, total = scores.rows()
    assert (rare.mean_estimated_r2, common.mean_estimated_r2) == pytest.approx((0.7, 0.5))
    assert total.mean_estimated_r2 == pytest.approx((0.9 + 0.7 + 0.1) / 3)
    assert total.estimate_correlation == pytest.approx(np.corrcoef(r2, estimate[:3])[0, 1])
    assert np.isnan(rare.estimate_correlation)  # of one site
    assert total.polymorphic_sites == 4


def test_estimate_correlation_can_be_negative_and_needs_varying_estimates() -> None:
    truth = np.array([[0, 1, 2, 0], [0, 2, 0, 1]])
    dosage = np.array([[0.0, 1.0, 2.0, 0.1], [1.0, 0.9, 0.8, 0.4]])
    scores, constant, none = SiteScores(), SiteScores(), SiteScores()
    scores.update(truth, dosage, [0.2, 0.2], estimated_r2=[0.1, 0.9])
    constant.update(truth, dosage, [0.2, 0.2], estimated_r2=[0.5, 0.5])
    none.update(truth, dosage, [0.2, 0.2])
    assert scores.rows()[-1].estimate_correlation == pytest.approx(-1.0)
    assert constant.rows()[-1].as_dict()["estimate_correlation"] is None
    assert constant.rows()[-1].mean_estimated_r2 == 0.5
    assert none.rows()[-1].as_dict()["mean_estimated_r2"] is None
