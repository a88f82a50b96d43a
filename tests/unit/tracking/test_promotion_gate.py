from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.helpers.evaluated import r2_sums_of
from vcfbert.errors import InputError
from vcfbert.tracking.promotion_gate import Measured, Passed, pass_gate

CHAMPION = Measured("version 1 (v17)", "r2", 0.8, "chr20", r2_sums_of(0.4))
CANDIDATE = Measured("v18", "r2", 0.85, "chr20", r2_sums_of(0.2))
# Better over all bins and at common sites, worse at rare ones.
TRADING = dataclasses.replace(CANDIDATE, r2_sums=r2_sums_of(0.05, rare_noise=0.8))


def passed(candidate: Measured, champion: Measured | None = CHAMPION, **options: Any) -> Passed:
    return pass_gate(candidate, champion, minimum=0.5, name="vcfbert", alias="champion", **options)


def refused(candidate: Measured, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        passed(candidate, **options)
    assert caught.value.code == "gate_refused"
    return caught.value


def test_gate_passes_candidate_better_in_every_bin() -> None:
    outcome = passed(CANDIDATE)
    assert outcome.why == (
        "v18 has r2 0.8500, at least 0.5; not below the 0.8000 of version 1 (v17); "
        "worse in no MAF bin at the targets, outside its interval"
    )
    assert {d.bin: d.verdict for d in outcome.differences} == {"0-0.5%": "better", "5-50%": "better", "all": "better"}
    assert outcome.forced == ""


def test_gate_refuses_candidate_worse_in_one_bin() -> None:
    refusal = refused(TRADING)
    assert "worse than champion version 1 (v17) at the targets, outside the interval of r2: 0-0.5% -0." in refusal.what
    assert "5-50%" not in refusal.what
    assert refusal.where == "vcfbert"


def test_gate_passes_bin_worse_within_its_interval() -> None:
    even = dataclasses.replace(CANDIDATE, r2_sums=r2_sums_of(0.405, noise_seed=3))
    outcome = passed(even)
    assert min(difference.value for difference in outcome.differences) < -0.001
    assert {difference.verdict for difference in outcome.differences} == {"even"}


def test_gate_names_bins_without_interval() -> None:
    """Eight samples are too few for an interval."""
    few = [
        dataclasses.replace(side, samples=side.samples[:8], by_sample=side.by_sample[:8])
        for side in (r2_sums_of(0.05, rare_noise=0.8), r2_sums_of(0.4))
    ]
    measured = [dataclasses.replace(one, r2_sums=m) for one, m in zip((CANDIDATE, CHAMPION), few, strict=True)]
    assert passed(*measured).why.endswith("(0-0.5%, 5-50%, all: too few samples or sites for an interval)")


def test_force_passes_and_records_the_refusals() -> None:
    low = dataclasses.replace(TRADING, value=0.4)
    outcome = passed(low, force=" rare variants do not matter here ")
    assert outcome.forced == "rare variants do not matter here"
    assert "forced (rare variants do not matter here) although v18 has r2 0.4000, and the minimum" in outcome.why
    assert "below the 0.8000 of champion version 1 (v17)" in outcome.why
    assert "0-0.5% -0." in outcome.why
    assert "at least 0.5;" not in outcome.why


def test_force_that_is_not_needed_is_not_recorded() -> None:
    outcome = passed(CANDIDATE, force="never mind")
    assert (outcome.forced, "never mind" in outcome.why) == ("", False)
    refused(TRADING, force="  ")  # blanks are no reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r2_sums": None}, ""),
        ({"r2_sums": r2_sums_of(0.9, truth_seed=2)}, "not evaluated at the same targets"),
    ],
)
def test_bins_of_other_targets_are_not_compared(change: dict[str, Any], words: str) -> None:
    outcome = passed(dataclasses.replace(CANDIDATE, **change))
    assert outcome.differences == ()
    assert words in outcome.why


def test_bins_are_compared_when_figures_are_of_other_data() -> None:
    other = dataclasses.replace(TRADING, data_digest="chr22", value=0.6)
    assert "outside the interval" in refused(other).what
    assert "not compared with version 1" in passed(dataclasses.replace(CANDIDATE, data_digest="chr22", value=0.6)).why


def test_first_version_of_an_alias_needs_only_the_minimum() -> None:
    assert passed(CANDIDATE, None).why.endswith("first of this alias")
    assert (
        "the minimum for publishing is 0.5"
        in refused(dataclasses.replace(CANDIDATE, value=float("nan")), champion=None).what
    )
