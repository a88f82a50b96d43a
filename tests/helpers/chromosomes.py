"""Panels and targets of several chromosomes as VCF text: random haplotypes, males haploid between X's PARs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.helpers.vcf_text import write_vcf
from vcfbert.genotypes.sex_chromosomes import BUILDS

X = BUILDS["b37"]
# In PAR1, between the PARs and in PAR2, some sites each, 30 kb apart.
X_POSITIONS = [
    *range(100_000, 1_300_000, 30_000),
    *range(X.par1_end + 1, X.par1_end + 1_500_000, 30_000),
    *range(X.par2_start, X.par2_start + 300_000, 30_000),
]
AUTOSOME_POSITIONS = list(range(50_000, 2_050_000, 25_000))


def positions_of(chrom: str) -> list[int]:
    return X_POSITIONS if chrom == "X" else AUTOSOME_POSITIONS


def haplotypes(chrom: str, n_samples: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """[n_sites, n_samples, 2]: mosaics of a few founders."""
    rng = np.random.default_rng([seed, *chrom.encode()])
    n_sites = len(positions_of(chrom))
    founders = (rng.random((n_sites, 8)) < rng.uniform(0.1, 0.9, size=(n_sites, 1))).astype(np.uint8)
    source = rng.integers(8, size=(n_sites // 20 + 1, n_samples, 2)).repeat(20, axis=0)[:n_sites]
    return np.take_along_axis(founders, source.reshape(n_sites, -1), axis=1).reshape(n_sites, n_samples, 2)


def between(pos: int) -> bool:
    return X.par1_end < pos < X.par2_start


def text_of(
    chroms: Sequence[str],
    n_samples: int,
    *,
    males: Sequence[int] = (),
    every: int = 1,
    doubled: Sequence[int] = (),
    samples: slice = slice(None),
    length: bool = True,
) -> str:
    """VCF text of some of ``n_samples``. ``males`` have one allele between the PARs, those ``doubled`` it twice."""
    names = [f"S{i}" for i in range(n_samples)][samples]
    lengths = {"X": f",length={X.x_length}"} if length else {}
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += [f"##contig=<ID={chrom}{lengths.get(chrom, '')}>" for chrom in chroms]
    lines.append("\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]))
    for chrom in chroms:
        alleles = haplotypes(chrom, n_samples)
        for row, pos in list(zip(alleles, positions_of(chrom), strict=True))[::every]:
            calls = []
            for sample in range(n_samples)[samples]:
                first, second = row[sample]
                one = chrom == "X" and between(pos) and sample in {*males, *doubled}
                calls.append(
                    f"{first}|{first if sample in doubled else second}" if not one or sample in doubled else f"{first}"
                )
            lines.append("\t".join([chrom, str(pos), ".", "A", "G", ".", ".", ".", "GT", *calls]))
    return "\n".join(lines) + "\n"


def write(path: Path, chroms: Sequence[str], n_samples: int, **options: object) -> Path:
    return write_vcf(path, text_of(chroms, n_samples, **options), index=path.suffix != ".vcf")  # type: ignore[arg-type]
