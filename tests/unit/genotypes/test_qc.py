from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, genotypes_of, panel_of
from vcfbert.genotypes.qc import DensityBin, QcReport, short, typed_density
from vcfbert.genotypes.sites import match_target

RARE = "0|1 0|0 0|0 0|0 0|0"


def report_of(target: list[Record]) -> QcReport:
    """Against a panel of A/G sites at positions 10 to 19."""
    _, report = match_target(genotypes_of(target), panel_of([(pos, "A", "G", RARE) for pos in range(10, 20)]))
    return report


def test_typed_density_counts_every_site_once_and_covers_the_panel() -> None:
    panel_pos = np.array([1_000, 1_500, 2_000], dtype=np.int32)
    strip = typed_density("20", np.array([1_000, 1_004, 1_991, 2_000], dtype=np.int32), panel_pos)
    assert len(strip) == 100
    assert (strip[0].start, strip[-1].stop) == (1_000, 2_000)
    assert all(after.start == before.stop + 1 for before, after in pairwise(strip))
    assert [(i, s.typed) for i, s in enumerate(strip) if s.typed] == [(0, 2), (99, 2)]


@pytest.mark.parametrize(("last", "stretches"), [(5, 1), (7, 3)])
def test_typed_density_of_a_short_span_has_one_bin_per_position(last: int, stretches: int) -> None:
    strip = typed_density("20", np.array([5], dtype=np.int32), np.array([5, last], dtype=np.int32))
    assert strip == (DensityBin("20", 5, 5, 1), *(DensityBin("20", p, p, 0) for p in range(6, last + 1)))
    assert len(strip) == stretches


def test_report_counts_repairs_and_the_agreement_of_builds() -> None:
    records = [(pos, "A", "G", "0|1") for pos in range(10, 16)]
    # Exchanged, flipped, both, other alleles, and two sites that the panel lacks.
    records[0:4] = [(10, "G", "A", "0|1"), (11, "T", "C", "0|1"), (12, "C", "T", "0|1"), (13, "A", "C", "0|1")]
    records += [(30, "A", "G", "0|1"), (31, "A", "G", "0|1")]
    report = report_of(records)
    assert (report.n_swapped, report.n_flipped, report.n_shared_positions) == (2, 2, 6)
    assert report.build_agreement == pytest.approx(5 / 6)


def test_report_has_the_worst_missing_rate_without_a_sample_name() -> None:
    calls = [".|. 0|0 0|1", "0|0 0|0 .|.", ".|. 0|0 0|0", "0|0 0|0 0|0"]
    report = report_of([(10 + i, "A", "G", row) for i, row in enumerate(calls)])
    assert (report.missing_rate, report.worst_missing_rate, report.n_much_missing) == (0.25, 0.5, 2)
    assert json.loads(json.dumps(report.summary())) == report.summary()


def test_short_summary_has_no_lists() -> None:
    summary = report_of([(10, "A", "G", "0|1"), (11, "A", "G", "0|0")]).summary()
    few = short(summary)
    assert set(summary) - set(few) == {"density", "chromosomes", "absent"}
    assert set(few["frequencies"]) == {"n_sites", "correlation", "n_different", "n_mirrored"}
    assert few["frequencies"]["n_sites"] == 2
