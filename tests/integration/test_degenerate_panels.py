"""Panels that are as small, or vary as little, as panels get: a bundle that imputes, or a refusal that leaves none.

One network and V19 are fitted, since both networks are trained and validated by the same code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.command_line import TINY, Outcome, vcfbert
from tests.helpers.refusals import assert_refused, listing
from tests.helpers.vcf_text import vcf_text, write_vcf

Alleles = npt.NDArray[np.int64]  # [haplotypes, sites]


def mosaics(n_haplotypes: int, n_sites: int) -> Alleles:
    """Haplotypes that copy eight founders in turn, one at a time."""
    rng = np.random.default_rng(4)
    founders = rng.random((8, n_sites)) < rng.uniform(0.2, 0.5, n_sites)
    switch = rng.random((n_haplotypes, n_sites)) < 0.03
    switch[:, 0] = True
    held = np.maximum.accumulate(np.where(switch, np.arange(n_sites), 0), axis=1)
    founder = np.take_along_axis(rng.integers(len(founders), size=switch.shape), held, axis=1)
    return founders[founder, np.arange(n_sites)].astype(np.int64)


def with_one_varying_site() -> Alleles:
    alleles = np.zeros((40, 60), np.int64)
    alleles[::2, 30] = 1
    return alleles


def singletons() -> Alleles:
    return np.eye(40, dtype=np.int64)


def text_of(alleles: Alleles, *, ploidy: int = 2, chrom: str = "20") -> str:
    calls = alleles.T.reshape(alleles.shape[1], -1, ploidy)
    rows = [
        (1000 * (site + 1), "A", "C", " ".join("|".join(map(str, call)) for call in row))
        for site, row in enumerate(calls)
    ]
    return vcf_text(rows, samples=[f"S{i}" for i in range(len(calls[0]))], chrom=chrom)


def scaffolds(alleles: Alleles, n_alone: int) -> str:
    """The first sites, each alone on a scaffold, and the others on a chromosome."""
    lines = text_of(alleles).splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    for number in range(n_alone):
        lines[first + number] = lines[first + number].replace("20", f"scaffold_{number}", 1)
    return "\n".join(lines) + "\n"


# Name: text of the panel; code of V19's refusal and of V17's, '' where a bundle is written.
PANELS: dict[str, tuple[str, str, str]] = {
    "20 samples": (text_of(mosaics(40, 60)), "", ""),
    "three samples": (text_of(mosaics(6, 60)), "", ""),
    "two samples": (text_of(mosaics(4, 60)), "panel_too_small", ""),
    "one sample": (text_of(mosaics(2, 60)), "panel_too_small", "panel_too_small"),
    "one site": (text_of(mosaics(40, 1)), "too_few_sites", "too_few_sites"),
    "two sites": (text_of(mosaics(40, 2)), "", ""),
    "no site that varies": (text_of(np.zeros((40, 60), np.int64)), "too_few_sites", "too_few_sites"),
    "every allele is ALT": (text_of(np.ones((40, 60), np.int64)), "too_few_sites", "too_few_sites"),
    "one site that varies": (text_of(with_one_varying_site()), "too_few_sites", "too_few_sites"),
    "singletons": (text_of(singletons()), "too_few_sites", ""),
    "one haplotype": (text_of(np.repeat(mosaics(1, 60), 40, axis=0)), "too_few_sites", "too_few_sites"),
    "inbred lines": (text_of(np.repeat(mosaics(30, 60), 2, axis=0)), "", ""),
    "a chromosome and scaffolds": (scaffolds(mosaics(40, 60), 6), "", ""),
    "haploid organisms": (text_of(mosaics(30, 60), ploidy=1), "", ""),
    "three haploid organisms": (text_of(mosaics(3, 60), ploidy=1), "panel_too_small", ""),
    "two haploid organisms": (text_of(mosaics(2, 60), ploidy=1), "panel_too_small", "panel_too_small"),
}


def target_of(text: str) -> str:
    """Every third record, with the calls of the first two samples."""
    lines = text.splitlines()
    records = [line for line in lines if not line.startswith("#")]
    kept = [*(line for line in lines if line.startswith("#")), *records[::3]]
    return "\n".join(line if line.startswith("##") else "\t".join(line.split("\t")[:11]) for line in kept) + "\n"


def fit(variant: str, panel: Path, bundle: Path, *more: object) -> Outcome:
    return vcfbert("fit", "--variant", variant, "--panel", panel, "--out", bundle, "--no-track", *TINY, *more)


@pytest.mark.parametrize("variant", ["v19", "v17"])
@pytest.mark.parametrize("name", PANELS)
def test_degenerate_panel_is_fitted_or_refused(tmp_path: Path, out: Path, name: str, variant: str) -> None:
    text, *codes = PANELS[name]
    code = codes[variant == "v17"]
    panel = write_vcf(tmp_path / "panel.vcf.gz", text)
    fitted = fit(variant, panel, out / "bundle")
    if code:
        assert_refused(fitted, code)
        assert not (out / "bundle").exists()
        return
    assert fitted.code == 0, fitted.err
    target = write_vcf(tmp_path / "target.vcf.gz", target_of(text))
    imputed = vcfbert("impute", "--model", out / "bundle", "--target", target, "--out", out / "imputed.vcf.gz")
    assert imputed.code == 0, imputed.err
    assert "imputed.vcf.gz" in listing(out)


# Rows of position and cM, for sites from 1 to 60 kb; the code of the refusal, '' where a bundle is written.
MAPS = {
    "flat half": ([(1, 0.0), (30_000, 0.3), (90_000, 0.3)], ""),
    "step of 50 cM": ([(1, 0.0), (30_000, 0.0), (30_001, 50.0), (90_000, 50.0)], ""),
    "part of the panel": ([(20_000, 0.0), (30_000, 0.1)], ""),
    "one million cM": ([(1, 0.0), (90_000, 1e6)], ""),
    "all zero": ([(1, 0.0), (90_000, 0.0)], "map_flat"),
    "cM that restart": ([(1, 0.0), (30_000, 1.0), (40_000, 0.0), (90_000, 1.0)], "map_backwards"),
    "two chromosomes joined": ([(1, 0.0), (90_000, 1.0), (1, 0.0), (90_000, 1.0)], "map_backwards"),
}


@pytest.mark.parametrize("name", MAPS)
def test_degenerate_map_is_used_or_refused(tmp_path: Path, out: Path, name: str) -> None:
    rows, code = MAPS[name]
    panel = write_vcf(tmp_path / "panel.vcf.gz", text_of(mosaics(40, 60)))
    genetic_map = tmp_path / "map.txt"
    genetic_map.write_text("pos chr cM\n" + "".join(f"{pos} 20 {cm}\n" for pos, cm in rows))
    fitted = fit("v19", panel, out / "bundle", "--map", genetic_map)
    if code:
        assert_refused(fitted, code, str(genetic_map))
        assert listing(out) == set()
    else:
        assert fitted.code == 0, fitted.err
        assert (out / "bundle").is_dir()


def test_record_at_telomere_is_left_out_with_warning(
    tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = text_of(mosaics(40, 60))
    panel = write_vcf(tmp_path / "panel.vcf", text.replace("20\t1000\trs1000", "20\t0\trs0"))
    built = vcfbert("panel", "build", "--panel", panel, "--out", out / "panel", "--json")
    assert built.json["stretches"][0]["n_sites"] == 59
    assert "1 records at position 0 (telomeres) are excluded" in caplog.text


def test_panel_inspect_shows_every_chromosome(tmp_path: Path) -> None:
    panel = write_vcf(tmp_path / "panel.vcf", scaffolds(mosaics(40, 60), 2))
    shown = vcfbert("panel", "inspect", panel, "--json").json
    found = [(facts["chromosome"], facts["sites"]) for facts in shown]
    assert found == [("scaffold_0", 1), ("scaffold_1", 1), ("20", 58)]


def test_panel_without_alt_is_refused(tmp_path: Path, out: Path) -> None:
    rows = [(1000 * (site + 1), "A", ".", "0|0 0|0") for site in range(5)]
    panel = write_vcf(tmp_path / "panel.vcf.gz", vcf_text(rows))
    for command in (["panel", "inspect", panel], ["panel", "build", "--panel", panel, "--out", out / "panel"]):
        assert_refused(vcfbert(*command), "empty", str(panel))
    assert_refused(fit("v17", panel, out / "bundle"), "empty", str(panel))
    assert listing(out) == set()
