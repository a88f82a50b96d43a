from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pysam
import pytest

from tests.helpers.vcf_text import Record, record_line, vcf_text, with_text_in_a_number_field, write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.vcf_reader import open_source, read_genotypes, stream_genotypes, stream_parts

FORMS = ["t.vcf", "t.vcf.gz", "t.gzip.vcf.gz", "t.bcf"]

# Type of a BCF's field of two values of one byte each.
TWO_BYTES = 0x21

RECORDS: list[Record] = [
    (100, "A", "G", "0|1 1/1 0|0"),
    (200, "C", "T,G", "1|2 0|2 .|."),
    (300, "AT", "A", "0/1 0|0 ./1"),
    (400, "G", ".", "0|0 ./. 0|0"),
]
# Written by hand: sites x samples x haplotypes.
ALLELES = [
    [[0, 1], [1, 1], [0, 0]],
    [[1, 0], [0, 0], [-1, -1]],
    [[0, 1], [0, 1], [-1, -1]],
    [[0, 1], [0, 0], [-1, 1]],
    [[0, 0], [-1, -1], [0, 0]],
]


def code_of(path: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_genotypes(path, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert path.name in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("index", [False, True])
def test_read_genotypes_of_every_container_is_the_same(tmp_path: Path, name: str, index: bool) -> None:
    found = read_genotypes(write_vcf(tmp_path / name, vcf_text(RECORDS), index=index))
    assert found.samples == ("A", "B", "C")
    assert found.alleles.dtype == np.int8
    assert found.alleles.tolist() == ALLELES
    assert found.phased.tolist() == [*[[True] * 3] * 3, [False, True, False], [True] * 3]
    assert found.sites.chrom == "20"
    assert found.sites.pos.tolist() == [100, 200, 200, 300, 400]
    assert found.sites.ref.tolist() == ["A", "C", "C", "AT", "G"]
    assert found.sites.alt.tolist() == ["G", "T", "G", "A", "."]
    assert found.sites.id.tolist() == ["rs100", "rs200", "rs200", "rs300", "rs400"]
    assert found.sites.continues.tolist() == [False, False, True, False, False]


def test_a_call_is_phased_or_needs_no_phase(tmp_path: Path) -> None:
    records: list[Record] = [(1, "A", "C", "0/0 0|1"), (2, "A", "C", "0/1 0|1"), (3, "A", "C", "./. 1/0")]
    found = read_genotypes(write_vcf(tmp_path / "t.vcf", vcf_text(records)))
    assert found.phased.tolist() == [[True, True], [False, True], [True, False]]


@pytest.mark.parametrize("name", FORMS)
def test_half_calls_keep_the_allele_they_have(tmp_path: Path, name: str) -> None:
    records: list[Record] = [(1, "A", "C", "0|. .|1 0/. ./1"), (2, "A", "C,G", "2|. ./1 .|. 0|1")]
    found = read_genotypes(write_vcf(tmp_path / name, vcf_text(records)))
    assert found.alleles.tolist() == [
        [[0, -1], [-1, 1], [0, -1], [-1, 1]],
        [[0, -1], [-1, 1], [-1, -1], [0, 1]],
        [[1, -1], [-1, 0], [-1, -1], [0, 0]],
    ]
    assert found.phased.tolist() == [[True, True, False, False], *[[True, False, True, True]] * 2]


@pytest.mark.parametrize("block", [1, 100])
def test_a_half_call_of_a_haploid_sample_is_its_allele(tmp_path: Path, block: int) -> None:
    """It tells no ploidy: that of the sample is told by its other calls, be they before or after."""
    records: list[Record] = [(1, "A", "C", "1/. 0|1"), (2, "A", "C", "1 0|1"), (3, "A", "C", "0/. 0|1")]
    found = read_genotypes(write_vcf(tmp_path / "t.vcf", vcf_text(records)), block_genotypes=2 * block)
    assert found.alleles[:, 0].tolist() == [[1, -2], [1, -2], [0, -2]]
    assert found.phased.all()


def test_a_single_dot_is_a_missing_call(tmp_path: Path) -> None:
    records: list[Record] = [(1, "A", "C", "0|1 ."), (2, "A", "C", ". .")]
    found = read_genotypes(write_vcf(tmp_path / "t.vcf", vcf_text(records)))
    assert found.alleles.tolist() == [[[0, 1], [-1, -1]], [[-1, -1], [-1, -1]]]
    assert found.phased.all()


def test_read_genotypes_makes_alleles_upper_case_and_missing_ids_dots(tmp_path: Path) -> None:
    text = vcf_text([(1, "a", "c", "0|1")]).replace("rs1", ".")
    found = read_genotypes(write_vcf(tmp_path / "t.vcf", text))
    assert (found.sites.ref[0], found.sites.alt[0], found.sites.id[0]) == ("A", "C", ".")


@pytest.mark.parametrize(
    ("region", "expected"),
    [("20", [100, 200, 200, 300, 400]), ("chr20:200-300", [200, 200, 300]), ("20:301-", [400]), ("20:1,00", [100])],
)
@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz", "t.bcf"])
@pytest.mark.parametrize("index", [False, True])
def test_read_genotypes_of_a_region_is_the_same_without_an_index(
    tmp_path: Path, name: str, index: bool, region: str, expected: list[int]
) -> None:
    path = write_vcf(tmp_path / name, vcf_text(RECORDS), index=index)
    assert read_genotypes(path, region=region).sites.pos.tolist() == expected


@pytest.mark.parametrize("index", [False, True])
def test_read_genotypes_excludes_a_deletion_that_starts_before_the_region(tmp_path: Path, index: bool) -> None:
    records: list[Record] = [(10, "ACGTACGT", "A", "0|1"), (15, "A", "C", "0|1")]
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(records), index=index)
    assert read_genotypes(path, region="20:12-20").sites.pos.tolist() == [15]


def test_read_genotypes_of_a_chromosome_without_records_is_refused(tmp_path: Path) -> None:
    text = vcf_text(RECORDS).replace("##contig=<ID=20>", "##contig=<ID=20>\n##contig=<ID=21>")
    assert code_of(write_vcf(tmp_path / "t.vcf.gz", text, index=True), region="21") == "chromosome_missing"
    assert code_of(write_vcf(tmp_path / "t.bcf", text, index=True), region="21") == "chromosome_missing"


def test_read_genotypes_of_one_chromosome_of_several_needs_a_region(tmp_path: Path) -> None:
    text = vcf_text(RECORDS) + record_line((50, "A", "T", "0|0 0|1 1|1"), "chr21") + "\n"
    path = write_vcf(tmp_path / "t.vcf", text)
    assert code_of(path) == "several_chromosomes"
    found = read_genotypes(path, region="21")
    assert (found.sites.chrom, found.sites.pos.tolist()) == ("chr21", [50])


@pytest.mark.parametrize("block", [1, 3, 6, 1000])
def test_stream_genotypes_blocks_join_to_the_whole(tmp_path: Path, block: int) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS))
    seen: list[int] = []
    blocks = list(stream_genotypes(path, block_genotypes=block, progress=seen.append))
    assert np.concatenate([b.alleles for b in blocks]).tolist() == ALLELES
    assert len(blocks) == {1: 4, 3: 4, 6: 2, 1000: 1}[block]
    assert seen[-1] == 5


def test_order_and_duplicates_are_checked_across_blocks(tmp_path: Path) -> None:
    records: list[Record] = [(1, "A", "C", "0|1"), (1, "A", "G", "0|0"), (1, "A", "C", "0|0")]
    duplicate = write_vcf(tmp_path / "d.vcf", vcf_text(records))
    with pytest.raises(InputError) as caught:
        list(stream_genotypes(duplicate, block_genotypes=1))
    assert caught.value.code == "duplicate_records"
    assert "record 20:1" in str(caught.value)


BAD_RECORDS = {
    "unsorted_records": [(2, "A", "C", "0|1 0|0"), (1, "A", "C", "0|1 0|0")],
    "duplicate_records": [(2, "A", "C", "0|1 0|0"), (2, "A", "G,C", "0|1 0|0")],
    "mixed_ploidy": [(1, "A", "C", "0|0 0|1"), (2, "A", "C", "0|1 1")],
    "symbolic_alt": [(1, "A", "C,<DEL>", "0|1 0|0")],
    "vcf_invalid": [(1, "A", "C", "0|2 0|0")],
    "empty": [],
}


@pytest.mark.parametrize("code", BAD_RECORDS)
@pytest.mark.parametrize("name", ["t.vcf", "t.vcf.gz"])
def test_read_genotypes_of_bad_records_is_refused(tmp_path: Path, code: str, name: str) -> None:
    assert code_of(write_vcf(tmp_path / name, vcf_text(BAD_RECORDS[code]))) == code


@pytest.mark.parametrize("alt", ["<DEL>", "*", "A[20:5[", "C,*"])
def test_read_genotypes_of_symbolic_alleles_is_refused_unless_asked_for(tmp_path: Path, alt: str) -> None:
    path = write_vcf(tmp_path / "t.vcf", vcf_text([(1, "A", alt, "0|1")]))
    assert code_of(path) == "symbolic_alt"
    kept = read_genotypes(path, symbolic=True)
    assert kept.sites.alt.tolist() == alt.split(",")
    assert kept.alleles[0].tolist() == [[0, 1]]


def test_read_genotypes_of_triploid_calls_is_refused(tmp_path: Path) -> None:
    assert code_of(write_vcf(tmp_path / "t.vcf", vcf_text([(1, "A", "C", "0|1|1 0|1")]))) == "mixed_ploidy"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("block", [1, 3, 100])
def test_haploid_samples_have_no_second_allele(tmp_path: Path, name: str, block: int) -> None:
    """B and D are haploid; what their missing calls look like does not matter."""
    records: list[Record] = [
        (1, "A", "C", "0|1 . ./. ."),
        (2, "A", "C", "0/0 1 0|1 0"),
        (3, "A", "C,G", "1/2 2 .|. ./."),
        (4, "A", "C", ". 0 0|0 1"),
    ]
    path = write_vcf(tmp_path / name, vcf_text(records))
    expected = [
        [[0, 1], [-1, -2], [-1, -1], [-1, -2]],
        [[0, 0], [1, -2], [0, 1], [0, -2]],
        [[1, 0], [0, -2], [-1, -1], [-1, -2]],
        [[0, 1], [1, -2], [-1, -1], [-1, -2]],
        [[-1, -1], [0, -2], [0, 0], [1, -2]],
    ]
    blocks = list(stream_genotypes(path, block_genotypes=block))
    assert blocks[-1].haploid.tolist() == [False, True, False, True]
    found = read_genotypes(path, block_genotypes=4 * block)
    assert found.alleles.tolist() == expected
    unphased = [[True] * 4, [False, True, True, True]]
    assert found.phased.tolist() == [unphased[i] for i in (0, 0, 1, 1, 0)]
    assert found.haploid.tolist() == [False, True, False, True]


def test_read_genotypes_of_haploid_samples_alone_marks_them(tmp_path: Path) -> None:
    found = read_genotypes(write_vcf(tmp_path / "t.vcf", vcf_text([(1, "A", "C", "0 1"), (2, "A", "C,G", "2 .")])))
    assert found.alleles.tolist() == [[[0, -2], [1, -2]], [[0, -2], [-1, -2]], [[1, -2], [-1, -2]]]
    assert found.phased.all()
    assert found.haploid.all()


@pytest.mark.parametrize("block", [1, 100])
@pytest.mark.parametrize(
    ("calls", "said"),
    [("0|1 1 . 0", "'A' is haploid here and diploid before"), ("1 . 0|1 1", "'A' is diploid here and haploid before")],
)
def test_a_sample_that_is_once_haploid_and_once_diploid_is_named(
    tmp_path: Path, block: int, calls: str, said: str
) -> None:
    """Its first call of the other ploidy is the place; sample B, haploid throughout, is no reason to refuse."""
    records: list[Record] = [(pos, "A", "C", f"{call} 1 0/1") for pos, call in enumerate(calls.split(), 1)]
    with pytest.raises(InputError, match=said) as caught:
        list(stream_genotypes(write_vcf(tmp_path / "t.vcf", vcf_text(records)), block_genotypes=block))
    assert caught.value.code == "mixed_ploidy"
    first = {"0|1 1 . 0": 2, "1 . 0|1 1": 3}[calls]
    assert f"20:{first}" in str(caught.value)


def test_read_genotypes_of_a_record_without_gt_is_refused(tmp_path: Path) -> None:
    text = vcf_text([(1, "A", "C", "7")]).replace("\tGT\t", "\tDP\t")
    assert code_of(write_vcf(tmp_path / "t.vcf", text)) == "no_genotypes"


def test_read_genotypes_of_other_files_is_refused(tmp_path: Path) -> None:
    assert code_of(tmp_path / "absent.vcf") == "file_not_found"
    assert code_of(tmp_path) == "file_not_found"
    for name, data, code in [
        ("text.vcf", b"sample\tgenotype\n", "not_vcf"),
        ("text.vcf.gz", gzip.compress(b"sample\tgenotype\n"), "not_vcf"),
        ("bytes.bcf", bytes(range(256)), "not_vcf"),
        ("header.vcf", b"##fileformat=VCFv4.2\n20\t1\t.\tA\tC\n", "not_vcf"),
        ("nothing.vcf", b"", "empty"),
    ]:
        path = tmp_path / name
        path.write_bytes(data)
        assert code_of(path) == code, name


@pytest.mark.parametrize("name", FORMS)
def test_read_genotypes_of_unusable_headers_is_refused(tmp_path: Path, name: str) -> None:
    if name != "t.bcf":  # the helper's writer refuses them too
        assert code_of(write_vcf(tmp_path / name, vcf_text([], samples=["A", "A"]))) == "duplicate_samples"
    assert code_of(write_vcf(tmp_path / name, vcf_text([], samples=[]))) == "no_samples"


def long_text() -> str:
    rng = np.random.default_rng(1)
    calls = np.array(["0|0", "0|1", "1|0", "1|1"])[rng.integers(0, 4, (2000, 20))]
    return vcf_text([(i + 1, "A", "C", " ".join(row)) for i, row in enumerate(calls)])


@pytest.mark.parametrize("name", FORMS)
def test_read_genotypes_of_a_cut_file_is_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_vcf(tmp_path / name, long_text())
    assert len(read_genotypes(path).sites) == 2000
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert code_of(path) == "truncated"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["t.vcf.gz", "t.bcf"])
def test_read_genotypes_of_bgzf_without_its_last_block_is_refused(tmp_path: Path, name: str) -> None:
    path = write_vcf(tmp_path / name, long_text())
    path.write_bytes(path.read_bytes()[:-28])
    assert code_of(path) == "truncated"


@pytest.mark.parametrize("name", ["t.vcf.gz", "t.bcf"])
@pytest.mark.parametrize("region", [None, "20", "20:10-2000", "20:1900-2000", "21"])
def test_read_genotypes_of_damaged_data_is_refused(
    tmp_path: Path, name: str, region: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_vcf(tmp_path / name, long_text(), index=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_genotypes(path, region=region)
    assert caught.value.code == "vcf_invalid"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("index", [False, True])
def test_read_genotypes_of_an_absent_chromosome_or_region_is_refused(
    tmp_path: Path, index: bool, recwarn: pytest.WarningsRecorder
) -> None:
    path = write_vcf(tmp_path / "t.vcf.gz", vcf_text(RECORDS), index=index)
    recwarn.clear()
    assert code_of(path, region="21") == "chromosome_missing"
    assert code_of(path, region="20:5000-6000") == "region_empty"
    assert not recwarn.list


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.vcf"
    good = vcf_text([(1, "A", "C", "0|1 0|0"), (2, "A", "C", "0|1 0|0")]).encode()
    path.write_bytes(good.replace(b"\n20\t2\t", b"\n\x93\t2\t"))
    assert code_of(path) == "vcf_invalid"


@pytest.mark.parametrize("before", ["", "21\t7\tr\tA\tC\t.\t.\t.\tGT\t0|1\t0|0\n"])
@pytest.mark.parametrize("columns", ["x\tr\tA\tC", "-7\tr\tA\tC", "99999999999999999999\tr\tA\tC", "7\tr", "7"])
def test_unusable_first_record_of_undeclared_chromosome_is_refused(tmp_path: Path, before: str, columns: str) -> None:
    """cyvcf2 gives such a record, and reading its fields would end the process."""
    path = tmp_path / "t.vcf"
    text = vcf_text([(1, "A", "C", "0|1 0|0"), (2, "A", "C", "0|1 0|0")])
    path.write_text(f"{text}{before}22\t{columns}\t.\t.\t.\tGT\t0|1\t0|0\n")
    with pytest.raises(InputError) as caught:
        list(stream_parts(open_source(path), lambda chrom: (Region(chrom),)))
    assert caught.value.code == "vcf_invalid"


@pytest.mark.parametrize("index", [False, True])
def test_read_genotypes_of_a_bcf_whose_gt_is_text_is_refused(tmp_path: Path, index: bool) -> None:
    path = with_text_in_a_number_field(write_vcf(tmp_path / "t.bcf", vcf_text(RECORDS)), TWO_BYTES)
    if index:
        pysam.tabix_index(str(path), preset="bcf", force=True, csi=True)
    assert code_of(path, region="20:1-1000") == "vcf_invalid"


def test_read_genotypes_of_a_bcf_compressed_with_gzip_is_refused(tmp_path: Path) -> None:
    path = write_vcf(tmp_path / "t.bcf", vcf_text(RECORDS))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    assert code_of(path) == "not_vcf"
