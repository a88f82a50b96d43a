"""Symbolic alleles of panels, from the panel's file to the imputed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from tests.helpers.vcf_text import write_vcf
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.record_info import KeptFields
from vcfbert.genotypes.store import open_panels, write_panels
from vcfbert.genotypes.vcf_writer import ImputedPanel, write_imputed

HEADER = """##fileformat=VCFv4.2
##contig=<ID=20,length=64000000>
##ALT=<ID=DEL,Description="Deletion, of the panel">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type">
##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length">
##INFO=<ID=CS,Number=1,Type=String,Description="Source">
##INFO=<ID=AFR,Number=A,Type=Float,Description="Frequency">
##INFO=<ID=EXACT,Number=0,Type=Flag,Description="Exact">
##INFO=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB\tC
"""
RECORDS = [
    "100\t.\tA\tG\tCS=array;AFR=0.25\t0|1\t0|0\t1|1",
    "200\tesv1\tC\t<DEL>\tEND=40000;SVTYPE=DEL;SVLEN=-39800;CS=union;EXACT\t0|1\t0|0\t1|0",
    "200\tesv2\tC\t<DEL>\tEND=50000;SVTYPE=DEL;SVLEN=-49800\t0|0\t0|1\t1|0",
    "300\tcnv\tG\t<CN0>,<CN2>\tEND=900;SVTYPE=CNV;SVLEN=-600,600\t0|1\t2|0\t1|2",
    "400\t.\tT\t<INS:ME:ALU>\tEND=400;SVTYPE=ALU;SVLEN=281\t0|1\t0|0\t1|0",
    "500\t.\tT\tG,*\t.\t0|1\t0|2\t1|0",
    "600\tbnd\tT\tT[20:5000[\tSVTYPE=BND\t0|0\t0|0\t1|0",
    "70000\t.\tT\tC\t.\t0|0\t0|0\t1|0",
]
KEPT = [
    "",
    "END=40000;SVTYPE=DEL;SVLEN=-39800",
    "END=50000;SVTYPE=DEL;SVLEN=-49800",
    "END=900;SVTYPE=CNV;SVLEN=-600",
    "END=900;SVTYPE=CNV;SVLEN=600",
    "END=400;SVTYPE=ALU;SVLEN=281",
    "",
    "",
    "SVTYPE=BND",
    "",
]


def text(records: list[str] = RECORDS) -> str:
    lines = []
    for record in records:
        pos, id_, ref, alt, info, *calls = record.split("\t")
        lines.append("\t".join(["20", pos, id_, ref, alt, ".", "PASS", info, "GT", *calls]))
    return HEADER + "\n".join(lines) + "\n"


def built(path: Path, out: Path, **options: Any) -> Panel:
    (panel,) = build_panels([path], out, holdout=0.3, seed=1, **options)
    return panel


def zarr_of(vcf: Path, out: Path) -> Path:
    from bio2zarr.vcf import convert

    convert([str(vcf)], str(out), variants_chunk_size=3)
    return out


def written(panel: Panel, out: Path, **options: Any) -> Path:
    """The file of a sample whose first haplotype carries the ALT of every site."""
    hds = np.zeros((panel.n_sites, 1, 2), dtype=np.float32)
    hds[:, :, 0] = (
        1.0
        / np.diff(np.append(np.flatnonzero(~panel.sites.continues), panel.n_sites)).repeat(
            np.diff(np.append(np.flatnonzero(~panel.sites.continues), panel.n_sites))
        )[:, None]
    )
    calls = np.full(hds.shape, -1, dtype=np.int8)
    blocks = [ImputedBlock(0, 5, hds[:5], calls[:5]), ImputedBlock(5, len(hds), hds[5:], calls[5:])]
    write_imputed(out, [ImputedPanel(panel, blocks)], samples=["S"], header={}, **options)
    return out


@pytest.mark.parametrize("name", ["p.vcf", "p.vcf.gz", "p.gzip.vcf.gz", "p.bcf", "p.vcz"])
def test_panel_with_symbolic_alleles_keeps_their_info_in_each_format(tmp_path: Path, name: str) -> None:
    if name == "p.vcz":
        path = zarr_of(write_vcf(tmp_path / "p.vcf.gz", text(), index=True), tmp_path / name)
    else:
        path = write_vcf(tmp_path / name, text())
    panel = built(path, tmp_path / "panel")
    (opened,) = open_panels(tmp_path / "panel")
    assert panel.sites.alt.tolist() == [
        "G",
        "<DEL>",
        "<DEL>",
        "<CN0>",
        "<CN2>",
        "<INS:ME:ALU>",
        "G",
        "*",
        "T[20:5000[",
        "C",
    ]
    assert panel.allele_count.tolist() == [3, 2, 2, 2, 2, 2, 2, 1, 1, 1]
    assert panel.sites.symbolic.tolist() == [alt != "G" and alt != "C" for alt in panel.sites.alt]
    assert panel.sites.end.tolist() == [0, 40000, 50000, 900, 900, 400, 0, 0, 0, 0]
    for found in (panel, opened):
        assert found.sites.info is not None
        assert found.sites.info.texts.tolist() == KEPT
        lines = {line.split(",")[0] for line in found.sites.info.header}
        assert lines == {
            *("##ALT=<ID=DEL", "##ALT=<ID=CN0", "##ALT=<ID=CN2", "##ALT=<ID=INS:ME:ALU"),
            *("##INFO=<ID=END", "##INFO=<ID=SVTYPE", "##INFO=<ID=SVLEN"),
        }
        assert '##ALT=<ID=DEL,Description="Deletion, of the panel">' in found.sites.info.header
    assert opened.digest == built(write_vcf(tmp_path / "other.vcf", text()), tmp_path / "other").digest


@pytest.mark.parametrize("name", ["o.vcf", "o.vcf.gz", "o.bcf"])
def test_imputed_file_has_the_symbolic_alleles_of_the_panel(tmp_path: Path, name: str) -> None:
    panel = built(write_vcf(tmp_path / "p.vcf", text()), tmp_path / "panel", info=["CS", "AFR", "EXACT"])
    path = written(panel, tmp_path / name)
    with pysam.VariantFile(str(path)) as file:
        assert set(file.header.alts) == {"DEL", "CN0", "CN2", "INS:ME:ALU"}
        records = list(file)
    plain, first, second, cnv, alu, mixed, breakend, last = records
    assert [record.alts for record in records] == [
        *(("G",), ("<DEL>",), ("<DEL>",), ("<CN0>", "<CN2>"), ("<INS:ME:ALU>",)),
        *(("G", "*"), ("T[20:5000[",), ("C",)),
    ]
    assert [record.stop for record in records] == [100, 40000, 50000, 900, 400, 500, 600, 70000]
    assert [record.id for record in records] == [None, "esv1", "esv2", "cnv", None, None, "bnd", None]
    assert (plain.info["CS"], plain.info["AFR"]) == ("array", (0.25,))
    assert (first.info["SVTYPE"], first.info["SVLEN"], first.info["CS"]) == ("DEL", (-39800,), "union")
    assert first.info["EXACT"]
    assert "EXACT" not in second.info
    assert cnv.info["SVLEN"] == (-600, 600)
    assert alu.info["SVLEN"] == (281,)
    assert "SVLEN" not in mixed.info
    assert breakend.info["SVTYPE"] == "BND"
    assert not {"SVTYPE", "CS", "AFR"} & set(last.info)
    assert [record.samples["S"]["GT"][1] for record in records] == [0] * len(records)


@pytest.mark.parametrize("name", ["o.vcf.gz", "o.bcf"])
def test_index_of_an_imputed_file_finds_a_deletion_at_its_end(tmp_path: Path, name: str) -> None:
    panel = built(write_vcf(tmp_path / "p.vcf", text()), tmp_path / "panel")
    with pysam.VariantFile(str(written(panel, tmp_path / name))) as file:
        assert [record.id for record in file.fetch("20", 44999, 45000)] == ["esv2"]


def test_panel_built_of_a_panel_in_memory_has_the_same_files(tmp_path: Path) -> None:
    panel = built(write_vcf(tmp_path / "p.vcf", text()), tmp_path / "panel")
    write_panels([panel], tmp_path / "again")
    for name in ("sites.npz", "rows.npy", "numbers.npy"):
        assert (tmp_path / "again/00" / name).read_bytes() == (tmp_path / "panel/00" / name).read_bytes()


def test_panel_without_symbolic_alleles_has_no_column_of_info(tmp_path: Path) -> None:
    panel = built(write_vcf(tmp_path / "p.vcf", text([RECORDS[0], RECORDS[-1]])), tmp_path / "panel")
    assert panel.sites.info is None
    with np.load(tmp_path / "panel/00/sites.npz") as stored:
        assert not {"info", "info_header"} & set(stored.files)


def test_end_tells_records_apart(tmp_path: Path) -> None:
    digests = set()
    for number, end in enumerate(("40000", "41000")):
        lines = [RECORDS[0], RECORDS[1].replace("40000", end)]
        digests.add(built(write_vcf(tmp_path / f"{number}.vcf", text(lines)), tmp_path / f"p{number}").digest)
    assert len(digests) == 2
    with pytest.raises(InputError, match="occur twice") as refused:
        built(write_vcf(tmp_path / "twice.vcf", text([RECORDS[1], RECORDS[1]])), tmp_path / "twice")
    assert refused.value.code == "duplicate_records"


def test_end_before_the_position_is_not_kept(tmp_path: Path) -> None:
    panel = built(
        write_vcf(tmp_path / "p.vcf", text([RECORDS[1].replace("END=40000", "END=199"), RECORDS[7]])), tmp_path / "p"
    )
    assert panel.sites.end.tolist() == [0, 0]


@pytest.mark.parametrize(("name", "code"), [("XX", "info_unknown"), ("PL", "info_number"), ("AF", "info_reserved")])
def test_fields_that_cannot_be_kept_are_refused(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        built(write_vcf(tmp_path / "p.vcf", text()), tmp_path / "p", info=[name])
    assert refused.value.code == code
    assert name in str(refused.value)
    assert "p.vcf" in str(refused.value)


def test_alleles_without_a_line_of_the_header_get_one() -> None:
    kept = KeptFields([])
    alts = np.array(["<DEL>", "<CN3>", "<INS:ME:LINE1>", "<OTHER>", "*"], dtype=object)
    info = kept.info(alts, np.full(5, "", dtype=object))
    assert info is not None
    assert info.header == (
        '##ALT=<ID=DEL,Description="Deletion">',
        '##ALT=<ID=CN3,Description="Copy number allele: 3 copies">',
        '##ALT=<ID=INS:ME:LINE1,Description="Insertion (ME:LINE1)">',
        '##ALT=<ID=OTHER,Description="Symbolic allele of the panel">',
    )


def test_long_lists_and_large_numbers_are_the_same_in_bcf(tmp_path: Path) -> None:
    lines = [
        f"{100 + i}\t.\tT\t<DUP>\tEND={2**30 + i};SVTYPE={'x' * i};SVLEN={value}\t0|1\t0|0\t1|0"
        for i, value in enumerate([-120, -121, -128, 127, 128, -32760, -32768, 32767, 32768, 2**30 - 200, "."] * 2, 1)
    ]
    panel = built(write_vcf(tmp_path / "p.vcf", text(lines)), tmp_path / "panel")
    with pysam.VariantFile(str(written(panel, tmp_path / "o.bcf"))) as file:
        in_bcf = [dict(record.info) | {"END": record.stop} for record in file]
    with pysam.VariantFile(str(written(panel, tmp_path / "o.vcf"))) as file:
        in_text = [dict(record.info) | {"END": record.stop} for record in file]
    assert in_bcf == in_text
