"""Compiles the kernels once, so that later processes load them from numba's cache.

    python -m vcfbert.compile_kernels     # about a minute; `make setup` runs it

It fits V19 to a tiny random panel and imputes a phased and an unphased sample. numba keeps the compiled code beside the
modules, or in ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vcfbert.config import with_overrides
from vcfbert.kernels import Alleles
from vcfbert.tracker import NullTracker

N_SAMPLES, N_SITES, EVERY = 12, 240, 6  # every sixth site of the targets is typed


def compile_kernels() -> None:
    """Runs every kernel on tiny data, in a temporary folder."""
    from vcfbert.bundle.load import load_bundle
    from vcfbert.imputation.files import impute_file
    from vcfbert.imputation.imputer import Imputer
    from vcfbert.training.fit import fit_panel

    rng = np.random.default_rng(1)
    founders = rng.random((4, N_SITES)) < rng.uniform(0.1, 0.9, N_SITES)
    alleles = founders[rng.integers(4, size=2 * N_SAMPLES)].astype(np.uint8)
    alleles ^= rng.random(alleles.shape) < 0.05
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as name:
        folder = Path(name)
        panel, target, genetic_map = folder / "panel.vcf", folder / "target.vcf", folder / "1.gmap"
        genetic_map.write_text("pos\tchr\tcM\n1\t1\t0\n1000000\t1\t2\n")
        panel.write_text(_vcf(alleles, step=1, unphased=0))
        target.write_text(_vcf(alleles[:4], step=EVERY, unphased=1))
        config = with_overrides(
            "cpu", ["masks.array_density=[0.05, 0.2]"], prepare={"panel": [str(panel)], "map": [str(genetic_map)]}
        )
        fit_panel(config, "v19", folder / "bundle", tracker=NullTracker())
        bundle = load_bundle(folder / "bundle")
        impute_file(Imputer(bundle, kept_bytes=1 << 24), target, folder / "imputed.vcf.gz")


def _vcf(alleles: Alleles, *, step: int, unphased: int) -> str:
    """VCF text of ``alleles`` [2n, sites] at every ``step``-th site. The last ``unphased`` of n samples lose phase."""
    n_samples = len(alleles) // 2
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
    samples = "\t".join(f"S{number}" for number in range(n_samples))
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    marks = "|" * (n_samples - unphased) + "/" * unphased
    lines += ["##contig=<ID=1>", f"{columns}\t{samples}"]
    for site in range(0, alleles.shape[1], step):
        pairs = zip(alleles[0::2, site], alleles[1::2, site], marks, strict=True)
        calls = [f"{first}{mark}{second}" for first, second, mark in pairs]
        lines.append("\t".join(["1", str(1000 * (site + 1)), ".", "A", "G", ".", ".", ".", "GT", *calls]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    compile_kernels()
