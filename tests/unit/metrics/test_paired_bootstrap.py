from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vcfbert.errors import InputError
from vcfbert.metrics.paired_bootstrap import (
    MIN_UNITS,
    Difference,
    Interval,
    paired_differences,
    simultaneous_intervals,
    worse_bins,
)
from vcfbert.metrics.r2_sums import R2Sums

COMMON = 3  # index of the bin 5-50%


def of(dosage: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> R2Sums:
    """Moments of [sites, samples], all of the commonest bin, a block a site."""
    columns = np.stack([np.ones_like(truth), truth, dosage, truth**2, dosage**2, truth * dosage], axis=-1)
    by_sample, by_block = np.zeros((truth.shape[1], 4, 6)), np.zeros((truth.shape[0], 4, 6))
    by_sample[:, COMMON], by_block[:, COMMON] = columns.sum(axis=0), columns.sum(axis=1)
    return R2Sums(tuple(f"s{i}" for i in range(truth.shape[1])), by_sample, by_block)


@pytest.fixture
def truth() -> npt.NDArray[np.float64]:
    return np.random.default_rng(1).integers(0, 3, (60, 80)).astype(float)


def noisy(truth: npt.NDArray[np.float64], sd: float, seed: int = 2) -> npt.NDArray[np.float64]:
    return np.asarray(truth + np.random.default_rng(seed).normal(0.0, sd, truth.shape))


def test_intervals_equal_those_of_resampled_genotypes(truth: npt.NDArray[np.float64]) -> None:
    """Slowly, from the genotypes themselves: means and spread of the difference agree."""
    good, bad = noisy(truth, 0.3), noisy(truth, 0.5, seed=4)
    difference = paired_differences(of(bad, truth), of(good, truth))[0]

    def r2(dosage: npt.NDArray[np.float64], actual: npt.NDArray[np.float64]) -> float:
        return float(np.corrcoef(actual.ravel(), dosage.ravel())[0, 1] ** 2)

    assert difference.bin == "5-50%"
    assert difference.candidate == pytest.approx(r2(bad, truth))
    assert difference.value == pytest.approx(r2(bad, truth) - r2(good, truth))
    generator = np.random.default_rng(5)
    for axis, interval in ((1, difference.over_samples), (0, difference.over_blocks)):
        drawn = []
        for _ in range(600):
            at = generator.integers(0, truth.shape[axis], truth.shape[axis])
            t, b, g = (np.take(values, at, axis=axis) for values in (truth, bad, good))
            drawn.append(r2(b, t) - r2(g, t))
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert interval.low == pytest.approx(low, abs=0.15 * (high - low))
        assert interval.high == pytest.approx(high, abs=0.15 * (high - low))


def test_intervals_are_simultaneous_over_bins() -> None:
    """Of 4000 draws 95% lie within every one of five independent columns' intervals, as of one column's; columns that
    move together pay nothing, and one that says nothing of most draws is none of the others' business."""
    drawn = np.random.default_rng(3).normal(size=(4000, 5)) * [1.0, 2.0, 3.0, 4.0, 5.0]

    def within(intervals: list[Interval], values: npt.NDArray[np.float64]) -> float:
        low, high = ([getattr(one, name) for one in intervals] for name in ("low", "high"))
        return float(((values >= low) & (values <= high)).all(axis=1).mean())

    assert within(simultaneous_intervals(drawn), drawn) == pytest.approx(0.95, abs=0.002)
    alone = simultaneous_intervals(drawn[:, :1])
    assert (alone[0].low, alone[0].high) == pytest.approx(np.quantile(drawn[:, 0], [0.025, 0.975]), abs=0.01)
    assert simultaneous_intervals(drawn)[0].width > 1.2 * alone[0].width
    together = simultaneous_intervals(drawn[:, :1] * [1.0, 2.0])
    assert [one.width for one in together] == pytest.approx([alone[0].width, 2.0 * alone[0].width])
    constant = simultaneous_intervals(np.column_stack([drawn[:, 0], np.zeros(4000)]))
    assert [one.width for one in constant] == pytest.approx([alone[0].width, 0.0])


def test_equal_difference_in_every_unit_has_zero_width(truth: npt.NDArray[np.float64]) -> None:
    """By hand: all units are alike, so resampling them changes nothing. t = 0, 1, 2 against d = 0, 1, 1 has r2 3/4."""
    same = np.tile([[0.0, 1.0, 2.0]], (12, 4))
    block_alone = of(np.minimum(same, 1.0), same)
    difference = paired_differences(block_alone, of(same, same))[0]
    assert (difference.candidate, difference.baseline) == pytest.approx((0.75, 1.0))
    assert (difference.over_blocks.low, difference.over_blocks.high) == pytest.approx((-0.25, -0.25))
    assert difference.over_samples.width > 0.0  # samples do differ
    assert difference.decisive == difference.over_samples
    assert difference.verdict == "worse"


def test_verdict_distinguishes_worse_from_even(truth: npt.NDArray[np.float64]) -> None:
    baseline = of(noisy(truth, 0.4), truth)
    verdicts = {
        sd: {d.bin: d.verdict for d in paired_differences(of(noisy(truth, sd, seed=9), truth), baseline)}
        for sd in (0.2, 0.4, 0.8)
    }
    assert verdicts[0.2] == {"5-50%": "better", "all": "better"}
    assert verdicts[0.4] == {"5-50%": "even", "all": "even"}
    assert verdicts[0.8] == {"5-50%": "worse", "all": "worse"}
    worse = worse_bins(paired_differences(of(noisy(truth, 0.8), truth), baseline))
    assert [difference.bin for difference in worse] == ["5-50%", "all"]


def test_one_bad_block_is_within_the_interval_over_blocks_alone(truth: npt.NDArray[np.float64]) -> None:
    """A difference that a single site makes is seen in every sample, yet says nothing of other sites."""
    good = noisy(truth, 0.3)
    bad = good.copy()
    bad[7] = 2.0 - bad[7]
    difference = paired_differences(of(bad, truth), of(good, truth))[0]
    assert difference.over_samples.high < 0.0 <= difference.over_blocks.high
    assert (difference.decisive, difference.verdict) == (difference.over_blocks, "even")


def test_same_seed_gives_same_intervals(truth: npt.NDArray[np.float64]) -> None:
    one, other = of(noisy(truth, 0.3), truth), of(noisy(truth, 0.4), truth)
    assert paired_differences(one, other) == paired_differences(one, other)
    assert paired_differences(one, other, seed=1) != paired_differences(one, other)


def test_few_units_have_no_interval(truth: npt.NDArray[np.float64]) -> None:
    few = truth[:, : MIN_UNITS - 1]
    difference = paired_differences(of(noisy(few, 0.9), few), of(few, few))[0]
    assert (difference.verdict, difference.as_dict()["over_samples"]) == ("unknown", None)
    assert difference.as_dict()["over_blocks"][1] < 0.0
    assert difference.text().endswith("(no interval), unknown")


def test_constant_dosage_has_r2_zero_and_constant_truth_no_interval(truth: npt.NDArray[np.float64]) -> None:
    difference = paired_differences(of(np.ones_like(truth), truth), of(truth, truth))[0]
    assert difference.value == pytest.approx(-1.0)
    lonely = np.zeros((40, 40))
    lonely[3, 3] = 1.0  # most resamples of 40 draw it, a third do not
    assert paired_differences(of(lonely / 2.0, lonely), of(lonely, lonely))[0].verdict == "even"
    assert paired_differences(of(lonely, lonely * 0.0), of(lonely, lonely * 0.0)) == ()


def test_paired_differences_of_other_truth_are_refused(truth: npt.NDArray[np.float64]) -> None:
    with pytest.raises(InputError) as caught:
        paired_differences(of(truth, truth), of(truth, truth[::-1]))
    assert caught.value.code == "not_paired"


def test_difference_text_states_value_interval_and_verdict() -> None:
    difference = Difference("1-5%", 0.8, 0.9, Interval(-0.11, -0.09), Interval(-0.13, -0.07))
    assert difference.text() == "1-5% -0.1000 (-0.1300 to -0.0700), worse"
