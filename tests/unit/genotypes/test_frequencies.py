"""Allele frequencies of a target beside the panel's, on numbers that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, genotypes_of, panel_of
from vcfbert.genotypes.frequencies import FrequencyCheck
from vcfbert.genotypes.sites import match_target


def calls(n_alt: int, n_samples: int) -> str:
    """Phased calls of ``n_samples`` in which ``n_alt`` alleles are ALT."""
    alleles = ["1"] * n_alt + ["0"] * (2 * n_samples - n_alt)
    return " ".join(f"{a}|{b}" for a, b in zip(alleles[::2], alleles[1::2], strict=True))


def check_of(target: list[tuple[int, str]], panel: list[tuple[int, str]]) -> FrequencyCheck:
    """Of A/G sites at these positions with these calls."""
    ours, theirs = ([record(pos, row) for pos, row in side] for side in (target, panel))
    return match_target(genotypes_of(ours), panel_of(theirs))[1].frequencies


def record(pos: int, row: str) -> Record:
    return pos, "A", "G", row


def test_frequencies_count_known_alleles_and_group_equal_sites() -> None:
    panel = [(10, calls(2, 20)), (20, calls(2, 20)), (30, calls(20, 20)), (40, calls(8, 20))]
    target = [(10, "0|1 0|0"), (20, "0|1 0|0"), (30, "1|1 .|."), (40, ".|. .|.")]
    check = check_of(target, panel)
    assert check.n_sites == 3
    assert check.cells == ((0.05, 0.25, 2), (0.5, 1.0, 1))
    assert check.correlation == 1.0
    assert (check.n_different, check.different) == (0, ())  # so few alleles may differ by chance
    assert json.loads(json.dumps(check.as_dict())) == check.as_dict()


def test_frequencies_list_sites_that_differ_by_more_than_chance_worst_first() -> None:
    panel = [(pos, calls(20, 100)) for pos in (10, 20, 30, 40)]  # 0.1
    target = [(10, calls(20, 100)), (20, calls(80, 100)), (30, calls(180, 100)), (40, calls(50, 100))]
    check = check_of(target, panel)
    assert (check.n_different, check.n_mirrored) == (2, 1)  # 0.9 mirrors 0.1; 0.25 is near enough
    assert [(site.pos, site.panel, site.target) for site in check.different] == [(30, 0.1, 0.9), (20, 0.1, 0.4)]
    assert (check.different[0].ref, check.different[0].alt) == ("A", "G")


def test_frequencies_count_a_haploid_sample_once_and_list_at_most_100_sites() -> None:
    check = check_of([(10, "1 0|0")], [(10, calls(2, 20))])
    assert check.cells == ((0.05, pytest.approx(1 / 3, abs=1e-3), 1),)
    assert check.correlation is None
    positions = range(10, 210)
    many = check_of([(p, calls(190, 100)) for p in positions], [(p, calls(10, 100)) for p in positions])
    assert (many.n_different, many.n_mirrored, len(many.different)) == (200, 200, 100)
    assert many.cells == ((0.05, 0.95, 200),)


def test_mirrored_is_true_for_inverted_genotypes_alone() -> None:
    n_alt = [2 + 2 * (i % 15) for i in range(60)]
    panel = [(10 + i, calls(n, 20)) for i, n in enumerate(n_alt)]
    inverted = [(10 + i, calls(40 - n, 20)) for i, n in enumerate(n_alt)]
    assert not check_of(panel, panel).mirrored
    assert check_of(inverted, panel).mirrored
    assert not check_of(inverted[:12], panel).mirrored  # so few sites may be mirrored by chance


def test_frequency_cells_count_every_site() -> None:
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 41, size=(80, 2))
    check = check_of(
        [(10 + i, calls(int(n), 20)) for i, (n, _) in enumerate(counts)],
        [(10 + i, calls(int(n), 20)) for i, (_, n) in enumerate(counts)],
    )
    assert sum(n for _, _, n in check.cells) == 80
    mean = sum(target * n for _, target, n in check.cells) / 80
    assert mean == pytest.approx(counts[:, 0].mean() / 40, abs=1e-3)
    assert check.correlation == pytest.approx(np.corrcoef(counts.T)[0, 1], abs=1e-4)
