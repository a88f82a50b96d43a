"""Reference blocks of gVCFs as typed sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.vcf_text import Record, panel_of, record_line, vcf_text, write_vcf
from vcfbert.genotypes import qc
from vcfbert.imputation.files import read_target

END = '##INFO=<ID=END,Number=1,Type=Integer,Description="End">'
CALLS = "0|1 1|0 0|0 1|1"
PANEL: list[Record] = [(pos, "A", "G", CALLS) for pos in range(100, 1000, 100)]


@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz", "t.bcf"])
@pytest.mark.parametrize("alt", ["<NON_REF>", "<*>", "."])
def test_reference_block_types_the_snps_that_it_covers(tmp_path: Path, alt: str, name: str) -> None:
    panel = panel_of([*PANEL[:3], (350, "AT", "A", CALLS), *PANEL[3:]])
    block = record_line((150, "C", alt, "0/0 ./.")).replace("\t.\t.\t.\tGT", "\t.\t.\tEND=500\tGT")
    text = vcf_text([(100, "A", "G", "0/1 1/1")]) + f"{block}\n"
    text += "".join(f"{record_line(record)}\n" for record in [(400, "A", "G", "0/1 0/1"), (600, "A", "G", "1/1 0/1")])
    path = write_vcf(tmp_path / name, text.replace("##FORMAT", f"{END}\n##FORMAT", 1))
    (matched,), report = read_target(path, [panel])
    assert panel.sites.pos[matched.panel_site].tolist() == [100, 200, 300, 400, 500, 600]
    assert matched.alleles[:, 0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 1], [0, 0], [1, 1]]
    assert matched.alleles[:, 1].tolist() == [[1, 1], [-1, -1], [-1, -1], [0, 1], [-1, -1], [0, 1]]
    assert report.counts[qc.MATCHED] == report.n_target_sites == 6


def test_reference_block_of_the_last_sites_reaches_the_end_of_the_panel(tmp_path: Path) -> None:
    block = record_line((300, "A", "<NON_REF>", "0/0")).replace("\t.\t.\t.\tGT", "\t.\t.\tEND=5000\tGT")
    text = vcf_text([(100, "A", "G", "0/1")]) + f"{block}\n"
    path = write_vcf(tmp_path / "t.vcf", text.replace("##FORMAT", f"{END}\n##FORMAT", 1))
    (matched,), _ = read_target(path, [panel_of(PANEL)])
    assert matched.panel_site.tolist() == [0, *range(2, 9)]


def test_record_with_a_base_after_non_ref_is_used(tmp_path: Path) -> None:
    text = vcf_text([(100, "A", "<NON_REF>,G", "0/2"), (200, "A", "G,<NON_REF>", "1/2")])
    (matched,), _ = read_target(write_vcf(tmp_path / "t.vcf", text), [panel_of(PANEL)])
    assert matched.alleles[:, 0].tolist() == [[0, 1], [1, -1]]
