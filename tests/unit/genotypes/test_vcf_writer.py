from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pysam
import pytest

from tests.helpers.panels import panel_of_sites
from vcfbert.errors import InputError, ResourceError, VcfbertError
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.record_formatter import joined_sites
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_writer import ImputedPanel, whole_records, write_imputed

needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")
KINDS = (".vcf", ".vcf.gz", ".bcf")

# pos, ref, alt, id, continues
SITES: list[tuple[int, str, str, str, bool]] = [
    (100, "A", "C", "rs1", False),
    (200, "G", "T", ".", False),
    (300, "C", "A", "rs3", False),
    (300, "C", "CTT", "rs3", True),
    (40_000, "TAA", "T", "rs4", False),
]
# [5 sites, 2 samples, 2 haplotypes]
HDS = np.array(
    [
        [[0.0, 1.0], [0.25, 0.5]],
        [[0.1234, 0.9996], [0.4994, 0.0004]],
        [[0.7, 0.0], [0.8, 0.1]],
        [[0.2, 0.0], [0.6, 0.9]],
        [[1.0, 1.0], [0.0, 0.05]],
    ],
    dtype=np.float32,
)
UNTYPED = np.full(HDS.shape, -1, dtype=np.int8)


def block(start: int = 0, stop: int = 5, calls: Any = UNTYPED, gp: Any = None) -> ImputedBlock:
    return ImputedBlock(0, 5, HDS, calls, gp).rows(start, stop)


def write(path: Path, blocks: Any = None, **options: Any) -> list[list[str]]:
    """The records' columns as htslib reads them from the file, whatever its kind."""
    own = {name: options.pop(name) for name in ("ids", "swapped", "haploid", "summary") if name in options}
    part = ImputedPanel(options.pop("panel", panel_of_sites(SITES)), [block()] if blocks is None else blocks, **own)
    write_imputed(path, [part], **{"samples": ["S1", "S2"], "header": {}, **options})
    with pysam.VariantFile(str(path)) as file:
        return [str(record).rstrip("\n").split("\t") for record in file]


def test_write_imputed_records_equal_text_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf"
    calls = UNTYPED.copy()
    calls[4, 0] = [1, 1]
    write(path, [block(calls=calls)])
    records = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    # Sample S2 of the first record: 0.25 x 0.5 = 0.125 is the probability of two ALT alleles.
    assert records[0].split("\t")[9:] == ["0|1:1:0,1:0,1,0", "0|1:0.75:0.25,0.5:0.375,0.5,0.125"]
    assert records[0].split("\t")[:7] == ["20", "100", "rs1", "A", "C", ".", "PASS"]
    # Rounded to thousandths first: 0.1234 -> 0.123, 0.9996 -> 1, 0.4994 -> 0.499, 0.0004 -> 0.
    assert records[1].split("\t")[8:] == [
        "GT:DS:HDS:GP",
        "0|1:1.123:0.123,1:0,0.877,0.123",
        "0|0:0.499:0.499,0:0.501,0.499,0",
    ]
    assert records[3].split("\t")[1:5] == ["40000", "rs4", "TAA", "T"]
    # (1 + 1 + 0 + 0.05) / 4; variance of the four over p (1 - p) = 0.23797 / 0.24984
    assert records[3].split("\t")[7] == "AF=0.5125;MAF=0.4875;DR2=0.9525;TYPED"
    assert records[1].split("\t")[7].endswith(";IMP")


def test_multiallelic_record_is_rejoined(tmp_path: Path) -> None:
    # S1: alleles A 0.7, CTT 0.2, REF 0.1 | REF. S2: 0.8 and 0.6 exceed 1: 0.571, 0.429, 0 | 0.1, 0.9, 0.
    record = write(tmp_path / "out.vcf.gz")[2]
    assert record[:5] == ["20", "300", "rs3", "C", "A,CTT"]
    assert record[7] == "AF=0.34275,0.38225;MAF=0.34275;DR2=0.3954,0.476;IMP"
    gt, ds, hds, gp = record[9].split(":")
    assert (gt, ds, hds) == ("1|0", "0.7,0.2", "0.7,0.2,0,0")
    assert gp == "0.1,0.7,0,0.2,0,0"  # 00 01 11 02 12 22
    gt, ds, hds, gp = record[10].split(":")
    assert (gt, ds, hds) == ("1|2", "0.671,1.329", "0.571,0.429,0.1,0.9")
    assert gp == "0,0,0.057,0,0.557,0.386"


HAPLOID = np.array([False, True])


@pytest.mark.parametrize("kind", KINDS)
def test_a_haploid_sample_is_written_with_one_allele(tmp_path: Path, kind: str) -> None:
    calls = UNTYPED.copy()
    calls[4, 1] = [1, -2]
    diploid = write(tmp_path / f"diploid{kind}", [block(calls=calls)])
    records = write(tmp_path / f"out{kind}", [block(calls=calls)], haploid=HAPLOID)
    assert [r[10] for r in records] == [
        "0:0.25:0.25:0.75,0.25",
        "0:0.499:0.499:0.501,0.499",
        "1:0.571,0.429:0.571,0.429:0,0.571,0.429",  # 0.8 and 0.6 exceed 1
        "1:1:1:0,1",
    ]
    assert [r[9] for r in records] == [r[9] for r in diploid]  # its neighbour is as it was
    # Three haplotypes count: (0 + 1 + 0.25) / 3; their variance over p (1 - p) is 0.18056 / 0.24306.
    assert records[0][7] == "AF=0.41667;MAF=0.41667;DR2=0.7429;IMP"
    # p = (0.7 + 0.571) / 3 and (0.2 + 0.429) / 3
    assert records[2][7].startswith("AF=0.42367,0.20967;")
    assert records[3][7] == "AF=1;MAF=0;DR2=0;TYPED"


def test_a_haploid_sample_with_genotype_probabilities_and_exchanged_alleles(tmp_path: Path) -> None:
    gp = np.zeros((5, 2, 3), dtype=np.float32)
    gp[..., 1] = 1
    swapped = np.array([True, True, False, False, True])
    options = {"haploid": HAPLOID, "swapped": swapped}
    with_gp = write(tmp_path / "gp.vcf", [block(gp=gp)], **options)
    without = write(tmp_path / "out.vcf", **options)
    assert [r[10] for r in with_gp] == [r[10] for r in without]
    assert [r[7] for r in with_gp] == [r[7] for r in without]
    assert [without[i][10] for i in (0, 1, 3)] == ["1:0.75:0.75:0.25,0.75", "1:0.501:0.501:0.499,0.501", "1:1:1:0,1"]
    assert without[0][7].startswith("AF=0.58333;")


def test_write_imputed_of_haploid_samples_alone_writes_one_allele(tmp_path: Path) -> None:
    records = write(tmp_path / "out.bcf", haploid=np.array([True, True]))
    assert records[0][9:] == ["0:0:0:1,0", "0:0.25:0.25:0.75,0.25"]
    assert records[0][7].startswith("AF=0.125;")
    assert records[2][9] == "1:0.7,0.2:0.7,0.2:0.1,0.7,0.2"


@pytest.mark.parametrize("cuts", [[3], [2, 3], [1, 2, 3, 4], []])
def test_records_do_not_depend_on_how_the_sites_come_in_blocks(tmp_path: Path, cuts: list[int]) -> None:
    edges = [0, *cuts, 5]
    blocks = [block(a, b) for a, b in pairwise(edges)]
    assert write(tmp_path / "cut.vcf", blocks) == write(tmp_path / "whole.vcf")


def test_region_that_ends_or_begins_within_a_multiallelic_record(tmp_path: Path) -> None:
    assert [r[1:5] for r in write(tmp_path / "a.vcf", [block(1, 3)])] == [
        ["200", ".", "G", "T"],
        ["300", "rs3", "C", "A"],
    ]
    assert [r[4] for r in write(tmp_path / "b.vcf", [block(3, 5)])] == ["CTT", "T"]


def test_blocks_that_leave_a_gap_are_refused() -> None:
    with pytest.raises(ValueError, match="one starts at site 3, the one before ends at 2"):
        list(whole_records([block(0, 2), block(3, 5)], np.zeros(5, bool)))


def test_sites_of_a_swapped_record_are_not_joined() -> None:
    swapped = np.array([False, False, True, False, False])
    assert joined_sites(panel_of_sites(SITES), swapped).tolist() == [False] * 5
    assert joined_sites(panel_of_sites(SITES), ~swapped).tolist() == [False] * 5
    assert joined_sites(panel_of_sites(SITES), np.zeros(5, bool)).tolist() == [False, False, False, True, False]


def test_swapped_site_is_written_as_the_input_has_it(tmp_path: Path) -> None:
    swapped = np.array([True, False, False, False, True])
    calls = UNTYPED.copy()
    calls[0, 0] = [0, 1]
    records = write(tmp_path / "out.vcf.gz", [block(calls=calls)], swapped=swapped)
    assert records[0][3:5] == ["C", "A"]
    # Of two equally probable alleles the written ALT is called, so that GT stays the rounding of HDS.
    assert records[0][9:] == ["1|0:1:1,0:0,1,0", "1|1:1.25:0.75,0.5:0.125,0.5,0.375"]
    assert records[0][7].startswith("AF=0.5625;MAF=0.4375;")
    assert records[3][3:5] == ["T", "TAA"]
    assert records[3][9] == "0|0:0:0,0:1,0,0"


def test_given_genotype_probabilities_are_kept_and_those_of_typed_calls_are_certain(tmp_path: Path) -> None:
    # Phase unknown: certainly heterozygous, HDS 0.5 on both haplotypes.
    hds = np.full((2, 2, 2), 0.5, dtype=np.float32)
    gp = np.zeros((2, 2, 3), dtype=np.float32)
    gp[0] = [0.0, 1.0, 0.0]
    gp[1] = [0.3, 0.4, 0.3]
    calls = np.full((2, 2, 2), -1, dtype=np.int8)
    calls[1, 1] = [1, 0]
    records = write(tmp_path / "out.vcf", [ImputedBlock(0, 2, hds, calls, gp)])
    assert records[0][9] == "1|1:1:0.5,0.5:0,1,0"
    assert records[1][9] == "1|1:1:0.5,0.5:0.3,0.4,0.3"
    assert records[1][10] == "1|0:1:1,0:0,1,0"


def test_ids_of_the_input_come_first_and_samples_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf.gz"
    ids = np.array(["mine", None, ".", "other;rs3", "."], dtype=object)
    records = write(path, ids=ids, samples=["Zoe", "Ann"])
    assert [r[2] for r in records] == ["mine", ".", "rs3;other", "rs4"]
    with pysam.VariantFile(str(path)) as file:
        assert list(file.header.samples) == ["Zoe", "Ann"]


def test_header_tells_where_the_file_came_from(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf"
    write(path, header={"model": "v18 of\nchr20", "panel_digest": "abc"})
    head = path.read_text().splitlines()
    assert head[0] == "##fileformat=VCFv4.3"
    assert head[1].startswith("##source=vcfbert ")
    assert "##vcfbert_model=v18 of chr20" in head
    assert "##vcfbert_panel_digest=abc" in head
    assert "##contig=<ID=20>" in head


@pytest.mark.parametrize("kind", KINDS)
def test_readers_agree_on_the_values(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out{kind}"
    write(path)
    with pysam.VariantFile(str(path)) as file:
        assert [r.samples["S2"]["GT"] for r in file] == [(0, 1), (0, 0), (1, 2), (0, 0)]
    first = next(iter(cyvcf2.VCF(str(path))))
    np.testing.assert_allclose(first.format("HDS"), [[0, 1], [0.25, 0.5]])
    np.testing.assert_allclose(first.format("GP"), [[0, 1, 0], [0.375, 0.5, 0.125]])
    assert first.INFO["AF"] == pytest.approx(0.4375)


@pytest.mark.parametrize(("kind", "index"), [(".vcf.gz", ".tbi"), (".bcf", ".csi")])
def test_region_query_through_the_index(tmp_path: Path, kind: str, index: str) -> None:
    path = tmp_path / f"out{kind}"
    write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + index]
    with pysam.VariantFile(str(path)) as file:
        assert [r.pos for r in file.fetch("20", 199, 300)] == [200, 300]
        assert [r.pos for r in file.fetch("20", 40_001, 40_002)] == [40_000]  # by its REF of three bases


@needs_bcftools
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("haploid", [None, HAPLOID])
def test_bcftools_reads_the_file_without_a_warning(tmp_path: Path, kind: str, haploid: Any) -> None:
    path = tmp_path / f"out{kind}"
    write(path, haploid=haploid)
    for command in (["view"], ["query", "-f", r"%POS %AF[ %GT %DS %HDS %GP]\n"], ["norm", "-m-"], ["+fill-tags"]):
        # bcftools norm reports its counts on stderr, and nothing else.
        done = subprocess.run(["bcftools", *command, str(path)], capture_output=True, text=True, check=True)
        assert [line for line in done.stderr.splitlines() if not line.startswith("Lines ")] == []
        assert done.stdout


def test_no_site_at_all_gives_a_valid_empty_file(tmp_path: Path) -> None:
    for kind in KINDS:
        assert write(tmp_path / f"out{kind}", []) == []
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz")) as file:
        assert list(file.header)


def test_progress_counts_sites(tmp_path: Path) -> None:
    seen: list[int] = []
    write(tmp_path / "out.vcf", [block(0, 3), block(3, 5)], progress=seen.append)
    assert seen[-1] == 5
    assert seen == sorted(seen)


def test_write_imputed_to_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown output format") as caught:
        write(tmp_path / "out.txt")
    assert caught.value.code == "output_format"


def test_write_imputed_of_a_position_beyond_tabix_is_refused(tmp_path: Path) -> None:
    panel = panel_of_sites([(1 << 29, "A", "C", ".", False)])
    with pytest.raises(InputError) as caught:
        write(tmp_path / "out.vcf.gz", [block(0, 1)], panel=panel)
    assert caught.value.code == "position_too_large"
    assert [r[1] for r in write(tmp_path / "out.bcf", [block(0, 1)], panel=panel)] == [str(1 << 29)]


@pytest.mark.parametrize("value", [np.nan, 1.01, -0.01])
def test_write_imputed_of_no_probability_is_refused(tmp_path: Path, value: float) -> None:
    hds = HDS.copy()
    hds[0, 0, 0] = value
    with pytest.raises(VcfbertError) as caught:
        write(tmp_path / "out.vcf.gz", [ImputedBlock(0, 5, hds, UNTYPED)])
    assert caught.value.code == "probability_invalid"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "index", "other"), [(".vcf.gz", ".tbi", ".csi"), (".bcf", ".csi", ".tbi")])
def test_write_imputed_again_removes_an_index_of_the_other_kind(
    tmp_path: Path, kind: str, index: str, other: str
) -> None:
    path = tmp_path / f"out{kind}"
    Path(f"{path}{other}").write_bytes(b"of an earlier file")
    write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + index]


@pytest.mark.parametrize("kind", KINDS)
def test_write_imputed_to_a_folder_leaves_no_index(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out{kind}"

    def blocks() -> Iterator[ImputedBlock]:
        path.mkdir()
        yield block(0, 5)

    with pytest.raises(InputError):
        write(path, blocks())
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError) as caught:
        write(path)
    assert caught.value.code == "output_not_writable"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_imputation_fails(tmp_path: Path, kind: str) -> None:
    def blocks() -> Iterator[ImputedBlock]:
        yield block(0, 2)
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        write(tmp_path / f"out{kind}", blocks())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_older_file_survives_a_failure(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out{kind}"
    before = write(path)
    hds = np.full_like(HDS, np.nan)
    with pytest.raises(VcfbertError):
        write(path, [ImputedBlock(0, 5, hds, UNTYPED)])
    with pysam.VariantFile(str(path)) as file:
        assert [str(r).rstrip("\n").split("\t") for r in file] == before


@pytest.mark.parametrize("kind", KINDS)
def test_write_imputed_to_an_impossible_folder_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write(tmp_path / "file" / f"out{kind}")
    assert caught.value.code == "output_not_writable"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("full_files")
def test_write_imputed_on_a_full_disk_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ResourceError) as caught:
        write(tmp_path / f"out{kind}")
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", KINDS)
def test_write_imputed_beyond_the_file_size_limit_is_refused(
    tmp_path: Path, kind: str, limit_file_size: Callable[[int], None]
) -> None:
    limit_file_size(100)
    with pytest.raises(InputError) as caught:
        write(tmp_path / f"out{kind}")
    limit_file_size(resource.RLIM_INFINITY)
    assert caught.value.code == "output_not_writable"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_format_are_those_asked_for_in_their_own_order(tmp_path: Path, kind: str) -> None:
    whole = write(tmp_path / f"whole{kind}", haploid=HAPLOID)
    some = write(tmp_path / f"some{kind}", haploid=HAPLOID, fields=("GP", "DS"))
    for full, few in zip(whole, some, strict=True):
        assert few[:8] == full[:8]
        assert few[8] == "GT:DS:GP"
        for cell, all_fields in zip(few[9:], full[9:], strict=True):
            gt, ds, _, gp = all_fields.split(":")
            assert cell == f"{gt}:{ds}:{gp}"
    assert write(tmp_path / f"gt{kind}", fields=())[0][8:] == ["GT", "0|1", "0|1"]
    with pysam.VariantFile(str(tmp_path / f"some{kind}")) as file:
        assert list(file.header.formats) == ["GT", "DS", "GP"]


def test_fields_with_genotype_probabilities(tmp_path: Path) -> None:
    gp = np.zeros((5, 2, 3), dtype=np.float32)
    gp[..., 1] = 1
    whole = write(tmp_path / "whole.vcf", [block(gp=gp)])
    some = write(tmp_path / "some.vcf", [block(gp=gp)], fields=("HDS",))
    with_gp = write(tmp_path / "gp.vcf", [block(gp=gp)], fields=("GP",))
    for full, hds, both in zip(whole, some, with_gp, strict=True):
        for a, b, c in zip(full[9:], hds[9:], both[9:], strict=True):
            gt, _, dosage, probability = a.split(":")
            assert (b, c) == (f"{gt}:{dosage}", f"{gt}:{probability}")


def qualities(records: list[list[str]]) -> list[list[str]]:
    return [[cell.split(":")[-1] for cell in record[9:]] for record in records]


def test_quality_is_that_of_the_written_genotype(tmp_path: Path) -> None:
    calls = UNTYPED.copy()
    calls[4, 0] = [1, 1]
    calls[1, 1] = [0, -1]
    fields = ("GT", "GQ")
    found = write(tmp_path / "out.vcf", [block(calls=calls)], fields=fields)
    assert found[0][8] == "GT:GQ"
    # 0|1 of 0.25 and 0.5: heterozygous with 0.5. 0|1 of 0.1234 and 0.9996: wrong with 0.1237.
    # 0|0 of a known 0 and 0.0004: wrong with 0.0004. Typed: '.'. 0|0 of 0 and 0.05: wrong with 0.05.
    assert qualities(found) == [["99", "3"], ["9", "34"], ["5", qualities(found)[2][1]], [".", "13"]]
    # The haplotypes of the multiallelic record's second sample: 0.571 A and 0.9 CTT, or the other way round.
    a, b = np.array([0.8, 0.6]) / 1.4, np.array([0.1, 0.9])
    assert qualities(found)[2][1] == f"{-10 * np.log10(1 - (a[0] * b[1] + a[1] * b[0])):.0f}"


def test_quality_of_haploid_and_exchanged_genotypes(tmp_path: Path) -> None:
    options = {"haploid": HAPLOID, "fields": ("GT", "DS", "HDS", "GP", "GQ")}
    gp = np.zeros((5, 2, 3), dtype=np.float32)
    gp[..., 0], gp[..., 1] = 0.01, 0.99
    plain = write(tmp_path / "a.vcf", [block(gp=gp)], **options)
    swapped = write(tmp_path / "b.vcf", [block(gp=gp)], **options, swapped=np.array([True, True, False, False, True]))
    # The haploid sample's own haplotype: 0.25, 0.4994, then 0.8 / 1.4 of the multiallelic record, 0.
    assert [cell[1] for cell in qualities(plain)] == ["6", "3", "4", "99"]
    assert [cell[0] for cell in qualities(plain)][:2] == ["20", "20"]  # 0|1 by GP
    assert qualities(swapped) == qualities(plain)
    assert all(len(cell.split(":")) == 5 for record in plain for cell in record[9:])


@pytest.mark.parametrize("kind", KINDS)
def test_write_imputed_excludes_untyped_sites_below_min_dr2(tmp_path: Path, kind: str) -> None:
    whole = write(tmp_path / f"whole{kind}")
    dr2 = [max(map(float, r[7].split("DR2=")[1].split(";")[0].split(","))) for r in whole]
    least = sorted(dr2)[2] - 1e-3
    expected = [r for r, value in zip(whole, dr2, strict=True) if value >= least]
    assert 0 < len(expected) < len(whole)
    summary = Summary(panel_of_sites(SITES))
    assert write(tmp_path / f"some{kind}", min_dr2=least, summary=summary) == expected
    n_sites = sum(len(r[4].split(",")) for r in expected)
    figures = summary.as_dict()
    assert (figures["n_sites"], figures["n_left_out"]) == (n_sites, 5 - n_sites)
    calls = UNTYPED.copy()
    calls[2, 0] = [1, 0]  # in the multiallelic record
    typed = write(tmp_path / f"typed{kind}", [block(calls=calls)], min_dr2=1.0)
    assert [r[1] for r in typed] == ["300"]
    assert write(tmp_path / f"none{kind}", min_dr2=1.0) == []


def test_empirical_r2_stands_where_sites_are_typed(tmp_path: Path) -> None:
    calls = UNTYPED.copy()
    calls[0] = [[0, 1], [0, 1]]
    calls[1] = 1
    calls[2] = [[0, 1], [0, 1]]
    loo_dosage = np.full(HDS.shape, np.nan, dtype=np.float32)
    loo_dosage[:3] = [[0.1, 0.9], [0.4, 0.6]]
    blocks = [replace(block(calls=calls), loo_dosage=loo_dosage)]
    r2 = np.corrcoef([0.1, 0.9, 0.4, 0.6], [0, 1, 0, 1])[0, 1] ** 2
    infos = [r[7] for r in write(tmp_path / "out.vcf", blocks)]
    assert f";ER2={r2:.4g};TYPED" in infos[0]
    assert f";ER2={r2:.4g},.;TYPED" in infos[2]
    assert not any("ER2" in infos[i] for i in (1, 3))  # does not vary, not typed
    cut = [blocks[0].rows(0, 3), blocks[0].rows(3, 5)]
    assert [r[7] for r in write(tmp_path / "cut.vcf", cut)] == infos


@needs_bcftools
@pytest.mark.parametrize("haploid", [None, HAPLOID, np.array([True, True])])
def test_bcf_and_vcf_have_the_same_text(tmp_path: Path, haploid: Any) -> None:
    calls = UNTYPED.copy()
    calls[:2] = 1
    calls[3, 0, 0] = 0
    gp = np.random.default_rng(2).dirichlet([0.3] * 3, size=(5, 2)).astype(np.float32)
    loo = np.random.default_rng(3).random(HDS.shape, dtype=np.float32)
    imputed = replace(block(calls=calls, gp=gp), loo_dosage=loo)
    fields = ("GT", "DS", "HDS", "GP", "GQ")
    for kind in (".vcf", ".bcf"):
        write(tmp_path / f"out{kind}", [imputed], haploid=haploid, fields=fields)
    view = ["bcftools", "view", "--no-header", str(tmp_path / "out.bcf")]
    text = subprocess.run(view, capture_output=True, text=True, check=True).stdout
    assert text == "".join(
        line for line in (tmp_path / "out.vcf").read_text().splitlines(keepends=True) if not line.startswith("#")
    )


def test_bcf_of_a_record_with_a_hundred_alleles_holds_them(tmp_path: Path) -> None:
    sites = [(100, "A", "C" * (i + 1), ".", i > 0) for i in range(100)]
    hds = np.zeros((100, 2, 2), dtype=np.float32)
    hds[99, 0, 1] = hds[63, 1, 0] = 1.0
    (record,) = write(tmp_path / "out.bcf", [ImputedBlock(0, 100, hds, np.full(hds.shape, -1, np.int8))],
                      panel=panel_of_sites(sites), fields=("DS",))  # fmt: skip
    assert len(record[4].split(",")) == 100
    assert [cell.split(":")[0] for cell in record[9:]] == ["0|100", "64|0"]
    assert record[9].split(":")[1].split(",") == ["0"] * 99 + ["1"]
