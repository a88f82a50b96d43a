"""Chromosome names of species other than human, through panel, fit and impute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_line import TINY, vcfbert
from tests.helpers.refusals import assert_refused
from tests.helpers.vcf_text import write_vcf
from vcfbert.genotypes.conversion import chromosome_files
from vcfbert.genotypes.vcf_reader import read_parts

CATTLE = {"22": 61_000_000, "23": 52_000_000, "25": 42_000_000, "26": 51_000_000, "X": 139_009_144}
N_SITES = 30


def text_of(chromosomes: dict[str, int], *, samples: int = 20, step: int = 1) -> str:
    """Haplotypes of six founders; every ``step``-th site of each chromosome, with its length."""
    rng = np.random.default_rng(3)
    lines = [f"##contig=<ID={name}{f',length={length}' if length else ''}>" for name, length in chromosomes.items()]
    lines = ["##fileformat=VCFv4.2", *lines, '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    names = "\t".join(f"S{i}" for i in range(samples))
    lines.append(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}")
    for name in chromosomes:
        alleles = (rng.random((6, N_SITES)) < 0.4).astype(int)[rng.integers(6, size=40)]
        for site in range(0, N_SITES, step):
            calls = "\t".join(f"{alleles[2 * i, site]}|{alleles[2 * i + 1, site]}" for i in range(samples))
            lines.append(f"{name}\t{1000 * (site + 1)}\t.\tA\tC\t.\t.\t.\tGT\t{calls}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf"])
def test_genome_of_cattle_is_fitted_and_imputed(tmp_path: Path, suffix: str) -> None:
    panel = write_vcf(tmp_path / f"panel{suffix}", text_of(CATTLE), index=suffix != ".vcf")
    target = write_vcf(tmp_path / "target.vcf.gz", text_of(CATTLE, samples=3, step=3), index=True)
    bundle, out = tmp_path / "bundle", tmp_path / "imputed.vcf.gz"
    fitted = vcfbert("fit", "--panel", panel, "--build", "none", "--out", bundle, "--no-track", *TINY)
    assert fitted.code == 0, fitted.err
    assert vcfbert("impute", "--model", bundle, "--target", target, "--out", out).code == 0
    imputed = read_parts(out)
    assert [(part.sites.chrom, len(part.sites)) for part in imputed] == [(name, N_SITES) for name in CATTLE]
    for part, true in zip(imputed, read_parts(panel), strict=True):
        assert np.array_equal(part.alleles[::3].sum(axis=2), true.alleles[::3, :3].sum(axis=2))


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("name", CATTLE)
def test_region_of_one_chromosome_has_its_sites_alone(tmp_path: Path, name: str, index: bool) -> None:
    panel = write_vcf(tmp_path / "panel.vcf.gz", text_of(CATTLE), index=index)
    options = ["--region", name, "--build", "none", "--out", tmp_path / "store", "--json"]
    (facts,) = vcfbert("panel", "build", "--panel", panel, *options).json["stretches"]
    assert (facts["chrom"], facts["n_sites"]) == (name, N_SITES)


def test_autosome_23_is_told_by_its_length_and_x_needs_build(tmp_path: Path) -> None:
    autosome = write_vcf(tmp_path / "23.vcf.gz", text_of({"23": 52_000_000}))
    built = vcfbert("panel", "build", "--panel", autosome, "--out", tmp_path / "store", "--json")
    assert [facts["chrom"] for facts in built.json["stretches"]] == ["23"]
    for name, length in (("X", 139_009_144), ("23", 0)):
        unknown = write_vcf(tmp_path / "unknown.vcf.gz", text_of({name: length}))
        refused = vcfbert("panel", "build", "--panel", unknown, "--out", tmp_path / "none")
        assert_refused(refused, "build_unknown", "--build none")


def test_placeholder_finds_chromosomes_of_any_species(tmp_path: Path) -> None:
    names = ["1", "2L", "2R", "7D", "LG3", "MT", "X", "XIV", "Z", "29"]
    for name in [*names, "20_old", "Un_KI270742v1", "omosome"]:
        (tmp_path / f"chr{name}.vcf.gz").touch()
    found = chromosome_files([str(tmp_path / "chr{chrom}.vcf.gz")])
    ordered = ["1", "2L", "2R", "7D", "29", "LG3", "X", "XIV", "Z", "MT"]
    assert [file.name for file in found] == [f"chr{name}.vcf.gz" for name in ordered]
