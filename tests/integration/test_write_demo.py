"""The writer on real data: what is written of 300 samples is read back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysam
import pytest

from vcfbert.genotypes.conversion import panel_from_genotypes
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.record_batch import Genotypes
from vcfbert.genotypes.vcf_reader import read_genotypes
from vcfbert.genotypes.vcf_writer import ImputedPanel, write_imputed

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
REGION = "20:1000000-1300000"


@pytest.fixture(scope="module")
def known() -> Genotypes:
    return read_genotypes(DEMO / "panel.vcf.gz", region=REGION)


@pytest.mark.parametrize("kind", [".vcf.gz", ".bcf", ".vcf"])
def test_written_genotypes_read_back_equal(tmp_path: Path, known: Genotypes, kind: str) -> None:
    panel = panel_from_genotypes(known)
    rng = np.random.default_rng(5)
    # Dosages on the right side of one half, every twentieth site typed.
    hds = np.abs(known.alleles - rng.uniform(0, 0.49, known.alleles.shape)).astype(np.float32)
    calls = np.full(hds.shape, -1, dtype=np.int8)
    calls[::20] = known.alleles[::20]
    swapped = rng.random(len(hds)) < 0.1
    blocks = [
        ImputedBlock(a, min(a + 500, len(hds)), hds[a : a + 500], calls[a : a + 500]) for a in range(0, len(hds), 500)
    ]
    path = tmp_path / f"out{kind}"
    write_imputed(path, [ImputedPanel(panel, blocks, swapped=swapped)], samples=known.samples, header={})

    back = read_genotypes(path)
    assert back.samples == known.samples
    assert back.phased.all()
    np.testing.assert_array_equal(back.sites.pos, known.sites.pos)
    np.testing.assert_array_equal(back.sites.ref, np.where(swapped, known.sites.alt, known.sites.ref))
    np.testing.assert_array_equal(back.sites.id, known.sites.id)
    np.testing.assert_array_equal(back.alleles, np.where(swapped[:, None, None], 1 - known.alleles, known.alleles))


def test_written_dosages_read_by_sample_equal(tmp_path: Path, known: Genotypes) -> None:
    panel = panel_from_genotypes(known)
    hds = np.random.default_rng(6).random(known.alleles.shape, dtype=np.float32)
    calls = np.full(hds.shape, -1, dtype=np.int8)
    path = tmp_path / "out.vcf.gz"
    part = ImputedPanel(panel, [ImputedBlock(0, len(hds), hds, calls)])
    write_imputed(path, [part], samples=known.samples, header={})
    with pysam.VariantFile(str(path)) as file:
        for i, record in enumerate(file.fetch("20", 1_000_000, 1_005_000)):
            written = [sample["HDS"] for sample in record.samples.values()]
            np.testing.assert_allclose(written, hds[i], atol=0.00051)
            assert record.info["AF"][0] == pytest.approx(float(hds[i].mean()), abs=1e-4)
            assert "IMP" in record.info
    assert i > 10
