from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.tiny import panel_from_alleles
from vcfbert.genotypes.summary import Summary


def summary_of_four_sites() -> Summary:
    """MAF 0, 0.5 %, 2 % and 50 % among 200 haplotypes."""
    alleles = np.zeros((200, 4), dtype=np.uint8)
    for site, count in enumerate([0, 1, 4, 100]):
        alleles[:count, site] = 1
    return Summary(panel_from_alleles(alleles))


def add(summary: Summary, dr2: list[float], typed: list[int] = [0] * 4, kept: list[int] = [1] * 4) -> None:
    flags = np.array([typed, kept], dtype=bool)
    summary.add_sites(np.arange(4), np.array(dr2), flags[0], flags[1])


def test_summary_bins_dr2_by_the_panels_maf() -> None:
    summary = summary_of_four_sites()
    add(summary, [0.9, 0.2, 0.4, 1.0])
    add(summary, [0.9, 0.4, 0.6, 0.3], typed=[0, 0, 0, 1], kept=[1, 1, 0, 1])
    figures = summary.as_dict()
    assert (figures["n_sites"], figures["n_left_out"]) == (7, 1)
    assert [(b["low"], b["high"], b["n"]) for b in figures["dr2_by_maf"]] == [
        (0.0, 0.005, 0),
        (0.005, 0.01, 2),
        (0.01, 0.05, 1),
        (0.05, 0.5, 1),
    ]
    # What does not vary in the panel, was typed or is not written counts nowhere.
    assert [b["mean_dr2"] for b in figures["dr2_by_maf"]] == [None, pytest.approx(0.3), 0.4, 1.0]
    histogram = {b["low"]: b["n"] for b in figures["dr2_histogram"] if b["n"]}
    assert histogram == {0.2: 1, 0.4: 2, 0.95: 1}
    assert len(figures["dr2_histogram"]) == 20
    assert json.loads(json.dumps(figures)) == figures


def test_summary_bins_the_qualities_of_genotypes() -> None:
    summary = summary_of_four_sites()
    summary.add_genotypes(np.bincount([0, 500, 900, 899], minlength=1001))  # GQ 0, 3.01, 10, 9.96
    summary.add_genotypes(np.bincount([999, 1000], minlength=1001))  # 30, and beyond what thousandths tell
    found = {(b["low"], b["high"]): b["n"] for b in summary.as_dict()["gq_histogram"] if b["n"]}
    assert found == {(0, 5): 2, (5, 10): 1, (10, 15): 1, (30, 99): 2}


def test_summary_of_added_parts_equals_the_whole() -> None:
    whole, joint = summary_of_four_sites(), summary_of_four_sites()
    for dr2, typed in (([0.9, 0.2, 0.4, 1.0], [0, 0, 0, 0]), ([0.9, 0.4, 0.6, 0.3], [0, 0, 0, 1])):
        part = summary_of_four_sites()
        for summary in (whole, part):
            add(summary, dr2, typed, kept=[1, 1, 0, 1])
            summary.add_genotypes(np.bincount([0, 500, 900, 899], minlength=1001))
        joint.add_counts(json.loads(json.dumps(part.counts())))
    assert joint.as_dict() == whole.as_dict()
