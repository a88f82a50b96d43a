from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import open_panels, write_panels
from vcfbert.kernels import Alleles


class AltFiller:
    """Gives every unknown allele ALT, and keeps what it was given."""

    def __init__(self, max_share: float = 1.0) -> None:
        self.max_share = max_share
        self.alleles: list[list[int]] = []  # [h, l]

    def filled(self, panel: Panel, unknown: Alleles) -> Iterator[Alleles]:
        self.alleles = panel.alleles(slice(None)).tolist()
        known = np.packbits(panel.alleles(slice(None)).T, axis=1)
        for site in range(panel.n_sites):
            yield known[site : site + 1] | unknown[site : site + 1]


def build(tmp_path: Path, records: list[Record], filler: AltFiller | None, name: str = "panel") -> Panel:
    vcf = write_vcf(tmp_path / f"{name}.vcf.gz", vcf_text(records))
    (panel,) = build_panels([vcf], tmp_path / name, holdout=0.1, seed=1, filler=filler)
    return panel


COMPLETE: list[Record] = [(100, "A", "G", "0|1 1|1 0|0 0|0"), (200, "C", "T", "0|0 0|1 0|0 1|0")]


def test_unknown_alleles_are_given_to_the_filler_as_ref(tmp_path: Path) -> None:
    filler = AltFiller()
    records = [*COMPLETE, (300, "A", "C", ".|. 0|. ./1 0|0"), (400, "A", "T", "0|0 1|0 0|0 0|1")]
    panel = build(tmp_path, records, filler)
    assert [row[2] for row in filler.alleles] == [0, 0, 0, 0, 0, 0, 0, 0]
    assert panel.alleles(slice(None))[:, 2].tolist() == [1, 1, 0, 1, 1, 1, 0, 0]
    assert panel.allele_count.tolist() == [3, 2, 5, 2]
    assert panel.filled == pytest.approx(5 / 32, abs=1e-6)
    (opened,) = open_panels(tmp_path / "panel")
    assert opened.digest == panel.digest
    assert opened.filled == pytest.approx(5 / 32, abs=1e-6)
    assert sorted(p.name for p in (tmp_path / "panel").iterdir()) == ["00", "manifest.json"]


def test_share_of_filled_alleles_is_kept_where_a_panel_is_written_again(tmp_path: Path) -> None:
    panel = build(tmp_path, [*COMPLETE, (300, "A", "C", ".|. 0|0 0|1 0|0")], AltFiller())
    write_panels([panel], tmp_path / "again")
    (again,) = open_panels(tmp_path / "again")
    assert again.filled == pytest.approx(2 / 24, abs=1e-6)


def test_complete_panel_is_the_same_with_and_without_a_filler(tmp_path: Path) -> None:
    filler = AltFiller()
    with_filler = build(tmp_path, COMPLETE, filler, "with")
    without = build(tmp_path, COMPLETE, None, "without")
    assert filler.alleles == []
    assert with_filler.digest == without.digest
    names = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("with", "without")]
    assert names[0]["stretches"] == names[1]["stretches"]
    assert "filled" not in names[0]["stretches"][0]


def test_missing_call_of_a_haploid_sample_is_one_unknown_allele(tmp_path: Path) -> None:
    records = [(100, "A", "G", "0|1 1 0|0"), (200, "A", "C", "0|1 . 0|0"), (300, "A", "T", "1|0 0 0|0")]
    panel = build(tmp_path, records, AltFiller())
    assert panel.haploid == (1,)
    assert panel.alleles(slice(None))[:, 1].tolist() == [0, 1, 1, 0, 0]
    assert panel.filled == pytest.approx(1 / 15, abs=1e-6)


def test_unphased_heterozygous_calls_of_a_phased_panel_are_unknown(tmp_path: Path) -> None:
    records = [*COMPLETE, (300, "A", "C", "0|1 0/1 1|1 0|0"), (400, "A", "T", "0|0 1|1 0|1 1|0")]
    panel = build(tmp_path, records, AltFiller())
    assert panel.alleles(slice(None))[:, 2].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("calls", "max_share", "code", "part"),
    [
        (".|. 0|0 0|1 0|0", 0.05, "panel_missing", "at most 5% are filled"),
        ("0/1 0/1 0/1 0/1", 1.0, "panel_unphased", "4 unphased heterozygous calls"),
    ],
)
def test_panel_with_too_many_unknown_alleles_is_refused_and_leaves_nothing(
    tmp_path: Path, calls: str, max_share: float, code: str, part: str
) -> None:
    with pytest.raises(InputError, match=part) as caught:
        build(tmp_path, [*COMPLETE, (300, "A", "C", calls)], AltFiller(max_share))
    assert caught.value.code == code
    assert [p.name for p in tmp_path.iterdir()] == ["panel.vcf.gz"]


def test_unknown_alleles_far_behind_complete_records_keep_their_sites(tmp_path: Path) -> None:
    records: list[Record] = [(pos, "A", "C", "0|1 0|0 1|0 0|0") for pos in range(1, 3000)]
    records[2500] = (2501, "A", "C", "0|1 .|. 1|0 0|0")
    panel = build(tmp_path, records, AltFiller())
    assert np.flatnonzero(panel.alleles(slice(None))[2]).tolist() == [2500]
    assert panel.n_sites == 2999
