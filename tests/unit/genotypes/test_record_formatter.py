"""Formatted records: text and bytes written by hand."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np

from tests.helpers.panels import panel_of_sites
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.record_formatter import RecordFormatter

SITE = (100, "A", "CT", "rs1", False)
HDS = np.array([[[0.25, 0.75], [0.0, 1.0]]], dtype=np.float32)  # one site, two samples


def formatted(hds: np.ndarray, **options: object) -> list[bytes]:
    """The records of untyped sites, one by one."""
    panel = panel_of_sites([SITE] * len(hds))
    flags = np.zeros(len(hds), dtype=bool)
    formatter = RecordFormatter(panel, ids=None, swapped=flags, joined=flags, **options)  # type: ignore[arg-type]
    block = ImputedBlock(0, len(hds), hds, np.full(hds.shape, -1, dtype=np.int8))
    (records,) = formatter.records(block)
    edges = [0, *records.ends.tolist()]
    return [bytes(records.data[a:b]) for a, b in pairwise(edges)]


def test_record_equals_text_by_hand() -> None:
    # p = 0.5, and the variance of 0.25, 0.75, 0 and 1 is 0.15625.
    assert formatted(HDS) == [
        b"20\t100\trs1\tA\tCT\t.\tPASS\tAF=0.5;MAF=0.5;DR2=0.625;IMP\tGT:DS:HDS:GP"
        b"\t0|1:1:0.25,0.75:0.188,0.624,0.188\t0|1:1:0,1:0,1,0\n"
    ]


def test_haploid_sample_has_one_value_and_runs_of_zeros_are_whole() -> None:
    hds = np.zeros((2, 5, 2), dtype=np.float32)
    hds[1, 2] = [0.5, 0.5]
    first, second = formatted(hds, haploid=np.arange(5) == 2, fields=("DS", "GP"))
    assert first.endswith(b"\tGT:DS:GP\t0|0:0:1,0,0\t0|0:0:1,0,0\t0:0:1,0\t0|0:0:1,0,0\t0|0:0:1,0,0\n")
    assert second.endswith(b"\tGT:DS:GP\t0|0:0:1,0,0\t0|0:0:1,0,0\t1:0.5:0.5,0.5\t0|0:0:1,0,0\t0|0:0:1,0,0\n")


def test_bcf_record_equals_bytes_by_hand() -> None:
    (record,) = formatted(HDS, fields=("DS",), contig=3)
    info = [(1, 0.5), (2, 0.5), (3, 0.625)]  # AF, MAF, DR2
    shared = struct.pack("<3iI", 3, 99, 1, 0x7F800001)  # contig, position, length of REF, no QUAL
    shared += struct.pack("<2I", 2 << 16 | 4, 2 << 24 | 2)  # alleles and INFO fields, FORMAT fields and samples
    shared += b"\x37rs1" + b"\x17A" + b"\x27CT" + b"\x11\x00"  # ID, alleles, PASS
    shared += b"".join(b"\x11" + bytes([key]) + b"\x15" + struct.pack("<f", value) for key, value in info)
    shared += b"\x11\x05\x00"  # IMP
    samples = b"\x11\x07\x21" + b"\x03\x05\x03\x05"  # GT 0|1 and 0|1, phased
    samples += b"\x11\x08\x15" + struct.pack("<2f", 1.0, 1.0)  # DS
    assert record == struct.pack("<2I", len(shared), len(samples)) + shared + samples
