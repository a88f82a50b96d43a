"""Tiny VCFs written by hand: records as short tuples, files plain, bgzipped, gzipped or BCF."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam

from vcfbert.constants import ABSENT
from vcfbert.genotypes.conversion import panel_from_genotypes
from vcfbert.genotypes.panel import Panel, Sites
from vcfbert.genotypes.record_batch import Genotypes

# (pos, ref, alt, genotypes separated by blanks)
Record = tuple[int, str, str, str]


def vcf_text(records: Sequence[Record], *, samples: Sequence[str] | None = None, chrom: str = "20") -> str:
    """The text of a VCF; samples are named A, B, C, ... where they are not given."""
    n_samples = len(records[0][3].split()) if records else 2
    names = [chr(ord("A") + i) for i in range(n_samples)] if samples is None else samples
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]
    header = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={chrom}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join([*columns, *(["FORMAT", *names] if names else [])]),
    ]
    return "\n".join([*header, *(record_line(record, chrom) for record in records)]) + "\n"


def record_line(record: Record, chrom: str = "20") -> str:
    pos, ref, alt, genotypes = record
    return "\t".join([chrom, str(pos), f"rs{pos}", ref, alt, ".", ".", ".", "GT", *genotypes.split()])


def write_vcf(path: Path, text: str, *, index: bool = False) -> Path:
    """Writes VCF text in the form that the name asks for: .vcf, .vcf.gz (BGZF), .gzip.vcf.gz (plain gzip) or .bcf."""
    if path.name.endswith(".gzip.vcf.gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.name.endswith(".vcf.gz"):
        with pysam.BGZFile(str(path), "wb") as handle:
            handle.write(text.encode())
        if index:
            pysam.tabix_index(str(path), preset="vcf", force=True)
    elif path.suffix == ".bcf":
        plain = path.with_suffix(".for_bcf.vcf")
        plain.write_text(text)
        with pysam.VariantFile(str(plain)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as sink:
            for record in source:
                sink.write(record)
        plain.unlink()
        if index:
            pysam.tabix_index(str(path), preset="bcf", force=True, csi=True)
    else:
        path.write_text(text)
    return path


def bgzf(content: bytes) -> bytes:
    """``content`` compressed with BGZF."""
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        with pysam.BGZFile(file.name, "wb") as handle:
            handle.write(content)
        return Path(file.name).read_bytes()


def with_text_in_a_number_field(path: Path, descriptor: int) -> Path:
    """Damages a BCF: the first record's last FORMAT field, which has the type ``descriptor``, becomes characters.

    htslib ends the process that decodes such numbers.
    """
    content = bytearray(gzip.decompress(path.read_bytes()))
    start = 9 + int.from_bytes(content[5:9], "little")  # of the first record, which begins with its two lengths
    shared = int.from_bytes(content[start : start + 4], "little")
    kind = content.index(descriptor, start + 8 + shared)
    content[kind] = descriptor & 0xF0 | 7
    path.write_bytes(bgzf(bytes(content)))
    return path


def genotypes_of(records: Sequence[Record], *, chrom: str = "20") -> Genotypes:
    """The same records without a file, for biallelic ones: '.' in a genotype is missing, '/' unphased, and a call of
    one allele haploid."""
    calls = [[call.replace("/", "|").split("|") for call in record[3].split()] for record in records]
    code = {".": -1, "0": 0, "1": 1, "absent": ABSENT}
    alleles = np.array([[[code[a] for a in [*call, "absent"][:2]] for call in row] for row in calls], dtype=np.int8)
    n = len(records)
    sites = Sites(
        chrom,
        np.array([r[0] for r in records], dtype=np.int32),
        np.array([r[1] for r in records], dtype=object),
        np.array([r[2] for r in records], dtype=object),
        np.array([f"rs{r[0]}" for r in records], dtype=object),
        np.zeros(n, dtype=bool),
    )
    ordered = np.array([["/" not in call for call in record[3].split()] for record in records])
    phased = ordered | (alleles[:, :, 0] == alleles[:, :, 1])
    return Genotypes(tuple(chr(ord("A") + i) for i in range(alleles.shape[1])), sites, alleles, phased)


def panel_of(records: Sequence[Record], *, chrom: str = "20") -> Panel:
    return panel_from_genotypes(genotypes_of(records, chrom=chrom))
