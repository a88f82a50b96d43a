from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, genotypes_of, panel_of, vcf_text, write_vcf
from vcfbert.genotypes import qc
from vcfbert.genotypes.sites import MatchedTarget, match_target, report_without_sites
from vcfbert.genotypes.vcf_reader import read_genotypes

# Ten panel haplotypes: ALT on one of them, so AF = 0.1, and on five.
RARE = "1|0 0|0 0|0 0|0 0|0"
HALF = "1|0 1|0 1|0 1|0 1|0"
# Targets of ten samples: AF 0.1 and 0.9.
LOW = " ".join(["0|1", "0|1", *["0|0"] * 8])
HIGH = " ".join(["0|1", "0|1", *["1|1"] * 8])


def match(target: list[Record], panel: list[Record]) -> tuple[MatchedTarget, dict[int, str]]:
    """The match, and the status of each site of the target that has a note, by position."""
    matched, report = match_target(genotypes_of(target), panel_of(panel))
    assert sum(report.counts.values()) == report.n_target_sites == len(target)
    assert report.n_used == len(matched.panel_site)
    return matched, {note.pos: note.status for note in report.notes}


def test_match_target_of_each_relation_orients_the_alleles() -> None:
    panel: list[Record] = [(pos, "A", "G", RARE) for pos in (10, 20, 30, 40, 50)]
    target: list[Record] = [
        (10, "A", "G", "0|1 .|."),
        (20, "G", "A", "0|1 .|."),
        (30, "T", "C", "0|1 .|."),
        (40, "C", "T", "0|0 .|."),
        (45, "A", "G", "0|1 1|1"),
        (50, "A", "C", "0|1 1|1"),
    ]
    matched, status = match(target, panel)
    assert matched.panel_site.tolist() == [0, 1, 2, 3]
    missing = [-1, -1]
    assert matched.alleles.tolist() == [[[0, 1], missing], [[1, 0], missing], [[0, 1], missing], [[1, 1], missing]]
    assert matched.swapped.tolist() == [False, True, False, True]
    assert matched.id.tolist() == ["rs10", "rs20", "rs30", "rs40"]
    assert status == {
        20: qc.SWAPPED,
        30: qc.FLIPPED,
        40: qc.FLIPPED_SWAPPED,
        45: qc.NOT_IN_PANEL,
        50: qc.ALLELE_MISMATCH,
    }


def test_match_target_with_exchanged_alleles_keeps_samples_haploid() -> None:
    panel: list[Record] = [(pos, "A", "G", RARE) for pos in (10, 20, 30)]
    target = genotypes_of([(10, "A", "G", "0|1 1"), (20, "G", "A", "0|1 1"), (30, "G", "A", ".|. .")])
    matched, report = match_target(target, panel_of(panel))
    assert (report.n_samples, report.n_haploid) == (2, 1)
    assert matched.alleles.tolist() == [[[0, 1], [1, -2]], [[1, 0], [0, -2]], [[-1, -1], [-1, -2]]]
    assert matched.haploid.tolist() == [False, True]
    doubled = matched.homozygous_coded()
    assert doubled.alleles.tolist() == [[[0, 1], [1, 1]], [[1, 0], [0, 0]], [[-1, -1], [-1, -1]]]
    assert not doubled.haploid.any()
    assert doubled.homozygous_coded() is doubled


def test_match_target_accepts_synonyms_of_the_chromosome() -> None:
    records: list[Record] = [(10, "A", "G", "0|1")]
    matched, _ = match_target(genotypes_of(records, chrom="chr20"), panel_of([(10, "A", "G", RARE)]))
    assert matched.panel_site.tolist() == [0]


def test_match_target_matches_indels_by_text_and_never_flips_them() -> None:
    texts = [(10, "AT", "A"), (20, "A", "AT"), (30, "AC", "A"), (40, "A", "C")]
    panel: list[Record] = [(*text, RARE) for text in texts]
    texts = [(10, "AT", "A"), (20, "AT", "A"), (30, "TG", "T"), (40, "A", "C")]
    target: list[Record] = [(*text, "0|1") for text in texts]
    matched, status = match(target, panel)
    assert matched.panel_site.tolist() == [0, 3]
    assert matched.alleles.tolist() == [[[0, 1]], [[0, 1]]]
    assert status == {20: qc.ALLELE_MISMATCH, 30: qc.ALLELE_MISMATCH}


def test_match_target_of_an_insertion_and_a_deletion_at_one_position_is_a_mismatch() -> None:
    panel: list[Record] = [(10, "CA", "C", RARE), (20, "C", "CA", RARE), (30, "A", "G", RARE), (40, "AT", "GC", RARE)]
    target: list[Record] = [
        (10, "C", "CA", "0|0 0|0"),
        (20, "CA", "C", "0|0 0|0"),
        (30, "A", "G", "0|1 0|0"),
        (40, "GC", "AT", "0|0 0|1"),  # the REF alleles contradict each other, so one file has them exchanged
    ]
    matched, status = match(target, panel)
    assert status == {10: qc.ALLELE_MISMATCH, 20: qc.ALLELE_MISMATCH, 40: qc.SWAPPED}
    assert matched.alleles[:, 0].tolist() == [[0, 1], [1, 1]]


def test_match_target_prefers_an_exact_match_to_a_swap() -> None:
    panel: list[Record] = [(10, "A", "C", RARE), (10, "C", "A", RARE), (10, "A", "T", RARE)]
    matched, status = match([(10, "A", "T", "1|1"), (10, "C", "A", "0|1")], panel)
    assert matched.panel_site.tolist() == [1, 2]
    assert matched.alleles.tolist() == [[[0, 1]], [[1, 1]]]
    assert status == {}


def test_match_target_of_two_sites_on_one_keeps_the_better() -> None:
    matched, status = match([(10, "G", "A", "1|1"), (10, "A", "G", "0|1")], [(10, "A", "G", RARE)])
    assert matched.alleles.tolist() == [[[0, 1]]]
    assert status == {10: qc.DUPLICATE}


def test_match_target_never_swaps_a_multiallelic_record(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf", vcf_text([(5, "A", "G", "0|1"), (10, "C", "A,T", "0|2")]))
    matched, report = match_target(read_genotypes(path), panel_of([(5, "A", "G", RARE), (10, "A", "C", RARE)]))
    assert matched.panel_site.tolist() == [0]
    assert report.counts[qc.ALLELE_MISMATCH] == 2


@pytest.mark.parametrize(
    ("target", "panel_calls", "expected", "first", "swapped"),
    [
        # Text agrees.
        (("A", "T", LOW), RARE, None, [0, 1], False),
        (("A", "T", HIGH), RARE, qc.AMBIGUOUS_RESOLVED, [1, 0], True),
        (("A", "T", LOW), HALF, None, [0, 1], False),
        # Text exchanged: a swap where the frequency is exchanged too, a flip where it is not.
        (("T", "A", HIGH), RARE, qc.AMBIGUOUS_RESOLVED, [1, 0], True),
        (("T", "A", LOW), RARE, qc.AMBIGUOUS_RESOLVED, [0, 1], False),
        (("T", "A", LOW), HALF, qc.AMBIGUOUS_EXCLUDED, None, None),
    ],
)
def test_match_target_decides_palindromic_snps_by_frequency(
    target: tuple[str, str, str], panel_calls: str, expected: str | None, first: list[int] | None, swapped: bool | None
) -> None:
    panel: list[Record] = [(5, "A", "G", RARE), (10, "A", "T", panel_calls)]
    matched, status = match([(5, "A", "G", LOW), (10, *target)], panel)
    assert status.get(10) == expected
    if first is None:
        assert matched.panel_site.tolist() == [0]
    else:
        assert matched.alleles[1, 0].tolist() == first
        assert matched.swapped[1] == swapped


def test_palindromic_snp_with_panel_frequency_near_half_is_excluded() -> None:
    near_half = "1|1 1|1 1|0 0|0 0|0 0|0"  # 5 of 12
    calls = " ".join(["0|0"] * 200)
    panel: list[Record] = [(5, "A", "G", near_half), (10, "A", "T", near_half)]
    _, status = match([(5, "A", "G", calls), (10, "T", "A", calls)], panel)
    assert status == {10: qc.AMBIGUOUS_EXCLUDED}
    assert error_of([(10, "T", "A", calls)], panel).code == "no_usable_site"


def test_palindromic_snp_with_too_few_calls_is_excluded() -> None:
    panel: list[Record] = [(5, "A", "G", RARE), (10, "A", "T", RARE)]
    _, status = match([(5, "A", "G", "0|0"), (10, "T", "A", "0|0")], panel)
    assert status == {10: qc.AMBIGUOUS_EXCLUDED}


def test_undecided_palindromic_snp_is_excluded_where_others_are_flipped() -> None:
    panel: list[Record] = [(5, "A", "G", RARE), (10, "C", "G", HALF)]
    matched, status = match([(5, "T", "C", LOW), (10, "C", "G", LOW)], panel)
    assert status == {5: qc.FLIPPED, 10: qc.AMBIGUOUS_EXCLUDED}
    assert matched.panel_site.tolist() == [0]


def test_match_target_uses_records_without_alt() -> None:
    panel: list[Record] = [(pos, "A", "G", RARE) for pos in (10, 20, 30, 40)] + [(50, "A", "AT", RARE)]
    target: list[Record] = [(10, "A", ".", "0|0"), (20, "G", ".", "0|0"), (30, "T", ".", ".|."), (40, "C", ".", "0|0")]
    matched, status = match([*target, (50, "A", ".", "0|0")], panel)
    assert matched.panel_site.tolist() == [0, 1, 2, 3]
    assert matched.alleles[:, 0].tolist() == [[0, 0], [1, 1], [-1, -1], [1, 1]]
    assert status == {20: qc.SWAPPED, 30: qc.FLIPPED, 40: qc.FLIPPED_SWAPPED, 50: qc.ALLELE_MISMATCH}


def error_of(target: list[Record], panel: list[Record], chrom: str = "20") -> qc.RefusedTargetError:
    """The refusal, whose report is as whole as any."""
    with pytest.raises(qc.RefusedTargetError) as caught:
        match_target(genotypes_of(target, chrom=chrom), panel_of(panel))
    assert caught.value.hint
    report = caught.value.report
    assert sum(report.counts.values()) == report.n_target_sites == len(target)
    assert report.n_samples == len(target[0][3].split())
    json.dumps(report.summary(), allow_nan=False)
    return caught.value


def test_match_target_without_overlap_is_refused() -> None:
    panel: list[Record] = [(10, "A", "G", RARE)]
    error = error_of([(11, "A", "G", "0|1")], panel)
    assert error.code == "no_overlap"
    assert (error.report.n_used, error.report.counts[qc.NOT_IN_PANEL]) == (0, 1)
    other = error_of([(10, "A", "G", "0|1")], panel, chrom="21")
    assert other.code == "no_overlap"
    assert "21:10-10" in str(other)


def test_match_target_of_another_build_is_refused() -> None:
    panel: list[Record] = [(pos, "A", "G", RARE) for pos in range(10, 30)]
    assert error_of([(10, "A", "C", "0|1")], panel).code == "wrong_build"
    mostly_wrong: list[Record] = [(pos, "A", "GC"[pos % 2], "0|1") for pos in range(10, 30)]
    error = error_of(mostly_wrong, panel)
    assert error.code == "wrong_build"
    assert "10 of 20" in str(error)
    assert (error.report.n_used, error.report.counts[qc.ALLELE_MISMATCH]) == (10, 10)
    assert error.report.build_agreement == 0.5
    few_wrong: list[Record] = [(pos, "A", "GC"[pos < 14], "0|1") for pos in range(10, 30)]
    match(few_wrong, panel)


def test_report_without_sites_has_zero_counts() -> None:
    report = report_without_sites(("A", "B"), panel_of([(10, "A", "G", RARE)]))
    assert (report.n_samples, report.n_target_sites, report.n_used, report.overlap_share) == (2, 0, 0, 0.0)
    json.dumps(report.summary(), allow_nan=False)


def test_match_target_report_lists_every_changed_site(tmp_path: Path) -> None:
    panel: list[Record] = [(1_000_001, "A", "G", RARE), (1_500_000, "A", "G", RARE), (2_000_000, "A", "G", RARE)]
    target: list[Record] = [
        (500, "A", "G", "0|0 0|0"),
        (1_000_001, "A", "G", "0/1 .|."),
        (1_200_000, "A", "G", "0|0 0|0"),
        (1_500_000, "G", "A", "0|1 0|0"),
    ]
    _, report = match_target(genotypes_of(target), panel_of(panel))
    summary = report.summary()
    assert sum(bin_["typed"] for bin_ in summary.pop("density")) == 2
    assert summary.pop("frequencies")["n_sites"] == 2
    assert summary == {
        "n_samples": 2,
        "n_haploid": 0,
        "n_doubled": 0,
        "n_target_sites": 4,
        "n_panel_sites": 3,
        "panel_filled": 0.0,
        "n_used": 2,
        "counts": {**dict.fromkeys((*qc.USED, *qc.EXCLUDED), 0), qc.MATCHED: 1, qc.SWAPPED: 1, qc.NOT_IN_PANEL: 2},
        "n_swapped": 1,
        "n_flipped": 0,
        "n_shared_positions": 2,
        "build_agreement": 1.0,
        "missing_rate": 0.25,
        "worst_missing_rate": 0.5,
        "n_much_missing": 1,
        "phased_share": 0.5,
        "overlap_share": 0.666667,
        "typed_per_mb": 2.0,
        "chromosomes": [],
        "absent": {},
        "excluded_records": {},
        "n_half_calls": 0,
        "lift": {},
        "mirrored": [],
    }
    report.write(tmp_path / "qc.json")
    assert json.loads((tmp_path / "qc.json").read_text())["counts"][qc.SWAPPED] == 1
    lines = [line.split("\t") for line in (tmp_path / "qc.tsv").read_text().splitlines()]
    assert lines[0] == ["chrom", "pos", "id", "ref", "alt", "panel_ref", "panel_alt", "status", "reason"]
    assert [line[1] for line in lines[1:]] == ["500", "1200000", "1500000"]
    assert lines[3][:8] == ["20", "1500000", "rs1500000", "G", "A", "A", "G", "swapped"]
    assert all(line[8] for line in lines[1:])


def test_unphased_is_true_at_unphased_heterozygous_calls() -> None:
    """B has an unphased heterozygous call, C a half call, which is missing for the QC report and needs no phase."""
    panel: list[Record] = [(pos, "A", "G", RARE) for pos in (10, 20, 30)]
    target: list[Record] = [(10, "A", "G", "0|1 0/1 0/."), (20, "G", "A", "0|1 0|1 0|."), (30, "A", "G", "0/0 1/1 0|1")]
    matched, report = match_target(genotypes_of(target), panel_of(panel))
    assert matched.alleles[:2, 2].tolist() == [[0, -1], [1, -1]]
    assert matched.phased.tolist() == [[True, False, False], [True] * 3, [True] * 3]
    assert matched.unphased.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert report.phased_share == pytest.approx(2 / 3)
    assert report.missing_rate == pytest.approx(2 / 9)
    assert report.worst_missing_rate == pytest.approx(2 / 3)
    chosen = matched.of_samples(np.array([2, 0]))
    assert chosen.samples == ("C", "A")
    assert chosen.alleles.tolist() == matched.alleles[:, [2, 0]].tolist()
    assert chosen.phased.tolist() == matched.phased[:, [2, 0]].tolist()
