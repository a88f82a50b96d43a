"""Records of a target that cannot be used are left out and counted, in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.excluded_records import MAX_LISTED, ExcludedRecords
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.region_reader import read_regions
from vcfbert.genotypes.regions import Region

FORMS = ("t.vcf", "t.vcf.gz", "t.gzip.vcf.gz", "t.bcf")
GOOD: list[Record] = [(pos, "A", "G", "0|1 1|1 0|0") for pos in (100, 200, 300)]
BAD: dict[str, Record] = {
    "position": (0, "A", "G", "0|1 0|0 0|0"),
    "symbolic_alt": (150, "A", "<DEL>", "0|1 0|0 0|0"),
    "duplicate_records": (200, "A", "G", "0|0 0|0 0|0"),
    "mixed_ploidy": (250, "A", "G", "0 0|0 0|0"),
}


END = '##INFO=<ID=END,Number=1,Type=Integer,Description="End">\n'  # which pysam writes for symbolic alleles


def text_of(records: list[Record]) -> str:
    return vcf_text(records).replace("##FORMAT", f"{END}##FORMAT", 1)


def read(path: Path, *, strict: bool = False) -> tuple[Genotypes | InputError, dict[str, int]]:
    found = read_regions(path, [Region("20")], strict=strict)
    return next(found.genotypes), found.excluded


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("reason", [*BAD, "triploid", "star"])
def test_record_that_cannot_be_used_is_excluded_and_strict_refuses_it(tmp_path: Path, name: str, reason: str) -> None:
    bad = BAD.get(reason) or (
        150,
        "A",
        "*" if reason == "star" else "C",
        "0|1 0|0 " + ("0|0" if reason == "star" else "0|0|1"),
    )
    code = {"triploid": "mixed_ploidy", "star": "symbolic_alt"}.get(reason, reason)
    records = sorted([*GOOD, bad], key=lambda record: record[0])
    path = write_vcf(tmp_path / name, text_of(records))
    genotypes, excluded = read(path)
    assert isinstance(genotypes, Genotypes)
    assert excluded == {code: 1}
    (listed,) = read_regions(path, [Region("20")], strict=False).listed
    assert (listed.chrom, listed.pos, listed.ref, listed.alt, listed.reason) == ("20", *bad[:3], code)
    assert genotypes.sites.pos.tolist() == [100, 200, 300]
    np.testing.assert_array_equal(genotypes.alleles, np.tile([[0, 1], [1, 1], [0, 0]], (3, 1, 1)))
    if reason != "position":
        refused, _ = read(path, strict=True)
        assert isinstance(refused, InputError)
        assert refused.code == code


def test_ref_that_is_no_sequence_is_excluded(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.vcf", vcf_text([*GOOD, (400, "0", "G", "0|1 0|0 0|0")]))
    genotypes, excluded = read(path)
    assert isinstance(genotypes, Genotypes)
    assert excluded == {"ref_invalid": 1}
    assert len(genotypes.sites) == 3


@pytest.mark.parametrize("name", FORMS)
def test_symbolic_allele_beside_others_is_dropped_and_its_calls_are_missing(tmp_path: Path, name: str) -> None:
    records: list[Record] = [
        (100, "A", "G,<NON_REF>", "0|1 1|2 0|0"),
        (200, "A", "*,G", "0|2 1|2 0|0"),
        (300, "A", "<NON_REF>", "0|0 0|0 0|1"),
    ]
    genotypes, excluded = read(write_vcf(tmp_path / name, text_of(records)))
    assert isinstance(genotypes, Genotypes)
    assert excluded == {}
    assert genotypes.sites.alt.tolist() == ["G", "G", "."]
    assert genotypes.alleles.tolist() == [
        [[0, 1], [1, -1], [0, 0]],
        [[0, 1], [-1, 1], [0, 0]],
        [[0, 0], [0, 0], [0, -1]],
    ]


@pytest.mark.parametrize("name", FORMS)
def test_sample_of_single_dots_is_haploid_where_others_are(tmp_path: Path, name: str) -> None:
    males: list[Record] = [(pos, "A", "G", "0|1 1 .") for pos in (100, 200)]
    females: list[Record] = [(pos, "A", "G", "0|1 1|1 .") for pos in (100, 200)]
    for records, expected in ((males, [False, True, True]), (females, [False, False, False])):
        genotypes, _ = read(write_vcf(tmp_path / name, vcf_text(records)))
        assert isinstance(genotypes, Genotypes)
        assert genotypes.haploid.tolist() == expected


def test_sample_of_two_ploidies_at_many_records_is_refused(tmp_path: Path) -> None:
    records: list[Record] = [(pos, "A", "G", "0|1 1|1" if pos < 150 else "0|1 1") for pos in range(100, 200)]
    refused, _ = read(write_vcf(tmp_path / "t.vcf", vcf_text(records)))
    assert isinstance(refused, InputError)
    assert refused.code == "mixed_ploidy"


def test_list_of_excluded_records_ends_and_their_count_does_not() -> None:
    excluded = ExcludedRecords()
    for pos in range(MAX_LISTED + 5):
        excluded.add("symbolic_alt", "20", pos, None, "A" * 500, ("<DEL>", "*"))
    table = excluded.table()
    assert table.counts == {"symbolic_alt": MAX_LISTED + 5}
    records = table.records()
    assert len(records) == MAX_LISTED
    assert records[7] == ("20", 7, ".", "A" * 100, "<DEL>,*", "symbolic_alt")
