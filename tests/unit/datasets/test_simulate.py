"""Simulated files equal the tree sequence. Records, typed sites and maps of small cases are written by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.command_line import vcfbert
from vcfbert.datasets.simulate import (
    HOT_FRACTION,
    MEAN_RECOMBINATION,
    Simulation,
    SiteTable,
    choose_typed,
    genotype_records,
    recombination_rates,
    simulate,
    simulate_trees,
    split_evenly,
)
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.evaluation.scoring import typed_positions
from vcfbert.genotypes.genetic_map import GeneticMap
from vcfbert.genotypes.vcf_reader import read_genotypes

pytest.importorskip("msprime", reason="the extra `simulate` is not installed")

SMALL = Simulation(haplotypes=64, targets=7, length_mb=0.4, populations=3, typed_per_mb=50, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "small"
    simulate(SMALL, out)
    return out


def table(pos: list[int], alleles: list[str], af: list[float]) -> SiteTable:
    ref, alt = (np.array([pair[i] for pair in alleles], dtype=object) for i in (0, 1))
    return SiteTable(np.array(pos), ref, alt, np.array(af))


# Hand-made cases


def test_genotype_records_of_two_samples_equal_hand_written_records() -> None:
    sites = table([7, 12], ["AG", "CT"], [0.5, 0.5])
    alleles = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], dtype=np.uint8)
    phased = genotype_records(sites, alleles, phased=True)
    first = b"1\t7\t.\tA\tG\t.\tPASS\t.\tGT\t0|1\t1|0\n"
    assert phased.data == first + b"1\t12\t.\tC\tT\t.\tPASS\t.\tGT\t1|1\t0|0\n"
    assert (phased.start.tolist(), phased.stop.tolist()) == ([6, 11], [7, 12])
    assert phased.ends.tolist() == [len(first), len(phased.data)]
    unphased = genotype_records(sites, alleles, phased=False).data.splitlines()
    assert unphased[0].endswith(b"\t0/1\t0/1")  # sorted, without phase
    assert unphased[1].endswith(b"\t1/1\t0/0")


def test_typed_sites_are_common_not_complementary_and_one_per_bin() -> None:
    """Bins of 25 kb in 0.1 Mb. The second has no usable site; the last begins at position 75,001."""
    simulation = replace(SMALL, length_mb=0.1, typed_per_mb=40)
    sites = table(
        [10, 500, 25_000, 25_001, 30_000, 60_000, 75_000, 75_001, 100_000],
        ["AG", "AT", "CT", "CG", "AC", "GA", "GT", "TC", "TG"],
        [0.04, 0.5, 0.95, 0.5, 0.96, 0.05, 0.049, 0.3, 0.01],
    )
    assert choose_typed(sites, simulation, np.random.default_rng(1)).tolist() == [2, 5, 7]


def test_bin_types_exactly_one_of_its_sites() -> None:
    simulation = replace(SMALL, length_mb=0.1, typed_per_mb=10)
    sites = table([10, 20, 99_000], ["AG", "AG", "AG"], [0.2, 0.3, 0.4])
    chosen = [choose_typed(sites, simulation, np.random.default_rng(seed)).tolist() for seed in range(30)]
    assert {len(typed) for typed in chosen} == {1}
    assert {typed[0] for typed in chosen} == {0, 1, 2}


def test_no_common_site_is_refused() -> None:
    sites = table([10, 20], ["AG", "AT"], [0.01, 0.5])
    with pytest.raises(InputError) as caught:
        choose_typed(sites, SMALL, np.random.default_rng(1))
    assert caught.value.code == "simulation_no_typed"


def test_split_evenly_gives_the_rest_to_the_first_populations() -> None:
    assert split_evenly(8, 3) == [3, 3, 2]
    assert split_evenly(1, 3) == [1, 0, 0]


@pytest.mark.parametrize("bases", [3_000, 75_001, 1_000_000])
def test_most_recombination_is_in_hot_spots(bases: int) -> None:
    edges, rates = recombination_rates(bases, np.random.default_rng(3))
    assert (edges[0], edges[-1]) == (0, bases)
    widths = np.diff(edges)
    assert (widths > 0).all()
    assert (rates * widths).sum() == pytest.approx(MEAN_RECOMBINATION * bases)
    background = (1 - HOT_FRACTION) * MEAN_RECOMBINATION
    assert rates.min() >= background * (1 - 1e-9)
    assert ((rates - background) * widths).sum() == pytest.approx(HOT_FRACTION * MEAN_RECOMBINATION * bases)
    if bases > 500_000:
        assert rates.min() == pytest.approx(background)
        assert widths[rates > 2 * background].sum() < 0.05 * bases


# Whole folders


def test_files_equal_the_haplotypes_of_the_tree_sequence(folder: Path) -> None:
    rng = np.random.default_rng(SMALL.seed)
    trees = simulate_trees(SMALL, *recombination_rates(SMALL.bases, rng), rng)
    alleles = trees.genotype_matrix()  # [sites, targets' haplotypes, then the panel's]
    frequency = alleles[:, 14:].mean(axis=1)
    kept = (frequency > 0) & (frequency < 1)
    panel, truth = read_genotypes(folder / "panel.vcf.gz"), read_genotypes(folder / "target_truth.vcf.gz")
    assert panel.alleles.reshape(len(panel.sites), -1).tolist() == alleles[kept, 14:].tolist()
    assert truth.alleles.reshape(len(truth.sites), -1).tolist() == alleles[kept, :14].tolist()
    assert panel.sites.pos.tolist() == truth.sites.pos.tolist() == (trees.sites_position[kept].astype(int) + 1).tolist()
    assert (np.diff(panel.sites.pos) > 0).all()
    assert (panel.sites.ref != panel.sites.alt).all()
    assert panel.phased.all()


def test_array_files_equal_the_truth_at_typed_sites(folder: Path) -> None:
    truth = read_genotypes(folder / "target_truth.vcf.gz")
    phased = read_genotypes(folder / "target_array_phased.vcf.gz")
    unphased = read_genotypes(folder / "target_array.vcf.gz")
    typed = np.isin(truth.sites.pos, sorted(typed_positions(folder / "typed.tsv")))
    assert 15 <= typed.sum() <= 20
    assert phased.alleles.tolist() == truth.alleles[typed].tolist()
    assert unphased.alleles.tolist() == np.sort(truth.alleles[typed], axis=2).tolist()
    assert unphased.sites.alt.tolist() == truth.sites.alt[typed].tolist()
    heterozygous = phased.alleles[:, :, 0] != phased.alleles[:, :, 1]
    assert phased.phased.all()
    assert (unphased.phased == ~heterozygous).all()
    panel = read_genotypes(folder / "panel.vcf.gz")
    frequency = panel.alleles[np.isin(panel.sites.pos, phased.sites.pos)].mean(axis=(1, 2))
    assert (np.minimum(frequency, 1 - frequency) >= 0.05).all()


def test_map_groups_and_manifest_describe_the_simulation(folder: Path) -> None:
    points = GeneticMap.read(folder / "map.gmap.gz", "1")
    edges, rates = recombination_rates(SMALL.bases, np.random.default_rng(SMALL.seed))
    middle = (edges[:-1] + edges[1:]) // 2
    expected = [100 * sum(rates * np.clip(x - edges[:-1], 0, np.diff(edges))) for x in middle.tolist()]
    assert points.cm(middle + 1) == pytest.approx(np.array(expected), abs=1e-6)
    groups = dict(line.split("\t") for line in (folder / "groups.tsv").read_text().splitlines())
    panel, truth = read_genotypes(folder / "panel.vcf.gz"), read_genotypes(folder / "target_truth.vcf.gz")
    assert [groups[name] for name in truth.samples] == ["EUR"] * 3 + ["AFR"] * 2 + ["EAS"] * 2
    assert [groups[name] for name in panel.samples] == ["EUR"] * 11 + ["AFR"] * 11 + ["EAS"] * 10
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["haplotypes"] == 64
    assert manifest["sites"] == len(panel.sites)
    assert manifest["centimorgans"] == pytest.approx(0.48)
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_populations_differ_and_linkage_decays_with_distance(tmp_path: Path) -> None:
    """Africans vary most, and distant sites are less correlated than neighbours. Imputation relies on both."""
    simulate(Simulation(haplotypes=240, targets=1, length_mb=1.0, seed=2), tmp_path / "out")
    panel = read_genotypes(tmp_path / "out" / "panel.vcf.gz")
    alleles = panel.alleles.reshape(len(panel.sites), 3, 80).astype(float)  # [l, population, haplotype]
    frequency = alleles.mean(axis=2)
    diversity = (2 * frequency * (1 - frequency)).sum(axis=0)
    assert diversity[1] > diversity[[0, 2]].max()
    within, pooled = diversity.mean(), (2 * frequency.mean(axis=1) * (1 - frequency.mean(axis=1))).sum()
    assert 0.02 < 1 - within / pooled < 0.3  # Fst
    common = np.flatnonzero(np.abs(frequency[:, 0] - 0.5) < 0.4)
    squared = np.corrcoef(alleles[common, 0]) ** 2
    distance = np.abs(panel.sites.pos[common, None] - panel.sites.pos[None, common])
    near, far = squared[(distance > 0) & (distance < 3_000)].mean(), squared[distance > 500_000].mean()
    assert near > 0.3 > 0.1 > far


def test_same_seed_gives_the_same_files_for_any_block_size(folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    options = {"threads": 1, "begin": seen.append, "progress": seen.append, "block_cells": 7 * 78}  # seven sites
    simulate(SMALL, tmp_path / "again", **options)  # type: ignore[arg-type]
    assert seen[0] == sum(seen[1:]) > 0
    assert set(seen[1:-1]) == {7}
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    assert len(files) == 11
    assert all((tmp_path / "again" / path.name).read_bytes() == path.read_bytes() for path in files)
    simulate(replace(SMALL, seed=6), tmp_path / "other")
    assert (tmp_path / "other" / "panel.vcf.gz").read_bytes() != (folder / "panel.vcf.gz").read_bytes()


def test_simulation_with_fewer_targets_than_populations(tmp_path: Path) -> None:
    simulate(Simulation(haplotypes=32, targets=2, length_mb=0.2, populations=4), tmp_path / "out")
    groups = [line.split("\t")[1] for line in (tmp_path / "out" / "groups.tsv").read_text().splitlines()]
    assert groups == ["EUR", "AFR"] + [name for name in ("EUR", "AFR", "EAS", "AMR") for _ in range(4)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"haplotypes": 63},
        {"haplotypes": 4},
        {"targets": 0},
        {"populations": 0},
        {"populations": 5},
        {"length_mb": 0.0},
        {"length_mb": 600.0},
        {"typed_per_mb": 0.0},
        {"seed": -1},
    ],
    ids=str,
)
def test_invalid_simulation_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        replace(SMALL, **wrong)
    assert caught.value.code == "simulation_invalid"


def test_simulate_without_msprime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msprime", None)
    with pytest.raises(MissingExtraError) as caught:
        simulate(SMALL, tmp_path / "out")
    assert "vcfbert[simulate]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_another_kind_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError):
        simulate(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_simulate_command_writes_and_replaces_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    size = ("--haplotypes", 20, "--targets", 3, "--length-mb", 0.2, "--populations", 2, "--seed", 3)
    done = vcfbert("simulate", *size, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["parameters"]["populations"] == 2
    assert len(read_genotypes(out / "panel.vcf.gz").samples) == 10
    again = vcfbert("simulate", *size, "--out", out)  # its own folder is replaced
    assert "20 haplotypes and 3 targets" in again.out
    refused = vcfbert("simulate", "--haplotypes", 21, "--out", tmp_path / "odd")
    assert refused.code == 2
    assert "error [simulation_invalid]" in refused.err
