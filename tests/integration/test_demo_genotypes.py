"""The demo data: reading, storing and matching agree with what is known of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pysam
import pytest

from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.sites import match_target
from vcfbert.genotypes.store import open_panels
from vcfbert.genotypes.vcf_reader import read_genotypes

DEMO = Path(__file__).parents[2] / "data/demo"


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    out = tmp_path_factory.mktemp("demo") / "panel"
    build_panels([DEMO / "panel.vcf.gz"], out, maps=[DEMO / "chr20.b37.gmap.gz"], holdout=0.1, seed=17)
    (panel,) = open_panels(out)
    return panel


def test_demo_panel_has_expected_sites_and_samples(panel: Panel) -> None:
    assert (len(panel.samples), panel.n_sites, panel.blocks.number.shape) == (300, 24990, (391, 600))
    assert len(panel.validation) == 30
    assert panel.cm[[0, -1]] == pytest.approx([4.7013, 11.3513], abs=1e-3)
    assert (np.diff(panel.cm) >= 0).all()


def test_panel_alleles_equal_those_of_pysam(panel: Panel) -> None:
    with pysam.VariantFile(str(DEMO / "panel.vcf.gz")) as source:
        for site, record in zip(range(200), source, strict=False):
            calls = [allele for sample in record.samples.values() for allele in sample["GT"]]
            assert panel.alleles(slice(site, site + 1))[:, 0].tolist() == calls
            assert (record.pos, record.id) == (panel.sites.pos[site], panel.sites.id[site])


def test_demo_target_sites_all_match(panel: Panel) -> None:
    typed = [int(line.split()[1]) for line in (DEMO / "typed.tsv").read_text().splitlines()]
    for name, phased in (("target_array", False), ("target_array_phased", True)):
        target = read_genotypes(DEMO / f"{name}.vcf.gz", region="chr20")
        matched, report = match_target(target, panel)
        assert panel.sites.pos[matched.panel_site].tolist() == typed
        assert report.counts["matched"] == 495
        assert not report.notes
        assert matched.unphased.any(axis=0).tolist() == [not phased] * len(matched.samples)
    assert report.typed_per_mb == pytest.approx(165.02, abs=0.01)


def test_target_of_another_build_is_reported(panel: Panel) -> None:
    """The truth's sites moved by 33 kb, as between two builds: positions meet others by chance."""

    truth = read_genotypes(DEMO / "target_truth.vcf.gz", region="20:1000000-2500000")
    moved = replace(truth, sites=replace(truth.sites, pos=truth.sites.pos + 33_000))
    with pytest.raises(InputError) as caught:
        match_target(moved, panel)
    assert caught.value.code == "wrong_build"
