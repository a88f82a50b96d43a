"""Bundles of several chromosomes and of X: panels, imputed files and reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pysam
import pytest

from tests.helpers.chromosomes import AUTOSOME_POSITIONS, X_POSITIONS, X, between, haplotypes, text_of, write
from tests.helpers.tiny import perturbed_bundle, tiny_config
from tests.helpers.vcf_text import write_vcf
from vcfbert.bundle.contents import Bundle
from vcfbert.distributed.imputation import plan_job, run_job
from vcfbert.distributed.job import ChunkSpec, Settings
from vcfbert.distributed.panel import convert_from, plan_panel
from vcfbert.distributed.scheduler import InProcess
from vcfbert.errors import InputError
from vcfbert.genotypes.conversion import build_panels, chromosome_files
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels
from vcfbert.imputation.files import ImputeOptions, check_target, impute_file
from vcfbert.imputation.imputer import Imputer

N = 12
MALES = (0, 3, 5, 8, 10)
REFERENCE, TARGETS = slice(0, 9), slice(9, 12)
OPTIONS = {"holdout": 0.2, "seed": 3}


def bundle_of(folder: Path, panels: tuple[Panel, ...], variant: str = "v19") -> Bundle:
    config = tiny_config({"encode": {"window": 32, "flank": 4, "copy_window": 32}})
    return perturbed_bundle(folder, panels, variant, config, size=0.1)


def rows(path: Path, chrom: str | None = None) -> list[str]:
    with pysam.VariantFile(str(path)) as file:
        return [str(record) for record in (file if chrom is None else file.fetch(chrom))]


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Panel, ...]:
    """The panels of one file with chromosomes 20, 21 and X."""
    folder = tmp_path_factory.mktemp("panel")
    vcf = write(folder / "panel.vcf.gz", ["20", "21", "X"], N, males=MALES, samples=REFERENCE)
    return build_panels([vcf], folder / "panel", **OPTIONS)


def test_file_of_several_chromosomes_gives_one_panel_each_and_three_for_x(panels: tuple[Panel, ...]) -> None:
    assert [str(panel.region) for panel in panels] == [
        "20", "21", f"X:1-{X.par1_end}", f"X:{X.par1_end + 1}-{X.par2_start - 1}", f"X:{X.par2_start}-",
    ]  # fmt: skip
    males = tuple(sample for sample in MALES if sample < 9)
    assert [panel.haploid for panel in panels] == [(), (), (), males, ()]
    for panel in panels:
        pos, alleles = panel.sites.pos.tolist(), haplotypes(panel.region.chrom, N)[:, REFERENCE]
        assert all(panel.region.holds(p) for p in pos)
        assert panel.n_haplotypes == 18 - len(panel.haploid)
        assert panel.validation == panels[0].validation  # the same samples throughout
        if panel.region.chrom != "X":
            assert panel.alleles(slice(None)).T.tolist() == alleles.reshape(len(pos), -1).tolist()
    assert sum(panel.n_sites for panel in panels[2:]) == len(haplotypes("X", N))
    assert panels[0].digest != panels[1].digest


def test_haploid_sample_counts_once_between_the_pars(panels: tuple[Panel, ...]) -> None:
    panel = panels[3]
    truth = haplotypes("X", N)[[between(p) for p in X_POSITIONS]][:, REFERENCE]
    one = np.zeros(truth.shape[1:], dtype=bool)
    one[[sample for sample in MALES if sample < 9], 1] = True
    expected = truth.reshape(len(truth), -1)[:, ~one.reshape(-1)]
    assert panel.alleles(slice(None)).T.tolist() == expected.tolist()
    assert panel.allele_count.tolist() == expected.sum(axis=1).tolist()


def test_files_of_one_chromosome_each_give_the_panels_of_one_file(panels: tuple[Panel, ...], tmp_path: Path) -> None:
    for chrom in ("21", "X", "20"):
        write(tmp_path / f"chr{chrom}.bcf", [chrom], N, males=MALES, samples=REFERENCE)
        lines = (f"{chrom} {pos} {pos / 1e6}\n" for pos in (1, 200_000_000))
        (tmp_path / f"{chrom}.map").write_text("chr pos cM\n" + "".join(lines))
    files = chromosome_files([str(tmp_path / "chr{chrom}.bcf")])
    assert [file.name for file in files] == ["chr20.bcf", "chr21.bcf", "chrX.bcf"]
    found = build_panels(files, tmp_path / "panel", maps=[tmp_path / "{chrom}.map"], **OPTIONS)
    assert [panel.digest for panel in found] == [panel.digest for panel in panels]
    assert found[1].cm == pytest.approx(found[1].sites.pos / 1e6)
    several = build_panels(
        files, tmp_path / "panel", maps=[tmp_path / f"{c}.map" for c in ("X", "20", "21")], **OPTIONS
    )
    assert [panel.cm.tolist() for panel in several] == [panel.cm.tolist() for panel in found]
    assert [panel.digest for panel in open_panels(tmp_path / "panel")] == [panel.digest for panel in panels]


def test_region_of_one_chromosome_is_read_from_a_file_of_several(tmp_path: Path) -> None:
    vcf = write(tmp_path / "p.vcf.gz", ["20", "21"], N)
    (panel,) = build_panels([vcf], tmp_path / "panel", region="21:100000-200000", **OPTIONS)
    assert (panel.region.chrom, panel.sites.pos.tolist()) == ("21", [100_000, 125_000, 150_000, 175_000, 200_000])


def test_invalid_panel_of_several_chromosomes_is_refused(tmp_path: Path) -> None:
    one, x = write(tmp_path / "a.vcf.gz", ["20"], N), write(tmp_path / "x.vcf", ["X"], N, males=MALES, length=False)
    mixed = write_vcf(tmp_path / "m.vcf", text_of(["20", "21"], N) + text_of(["20"], N).splitlines()[-1] + "\n")
    bare = tmp_path / "bare.map"
    bare.write_text("pos rate cM\n1 1 0\n9 1 1\n")
    cases = [
        ([one, one], {}, "chromosome_twice"),
        ([x], {}, "build_unknown"),
        ([x], {"build": "b36"}, "build_unknown"),
        ([mixed], {}, "unsorted_records"),
        ([one], {"maps": [bare, bare]}, "map_invalid"),
        ([one], {"region": "7"}, "empty"),
    ]
    for files, options, code in cases:
        with pytest.raises(InputError) as caught:
            build_panels(files, tmp_path / "panel", **OPTIONS, **options)  # type: ignore[arg-type]
        assert caught.value.code == code
        assert not (tmp_path / "panel").exists()
    assert len(build_panels([x], tmp_path / "panel", build="b37", **OPTIONS)) == 3
    with pytest.raises(InputError, match="no file of any chromosome"):
        chromosome_files([str(tmp_path / "none{chrom}.vcf")])


@pytest.fixture(scope="module")
def bundle(panels: tuple[Panel, ...], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(tmp_path_factory.mktemp("bundle") / "all", panels)


@pytest.mark.parametrize("variant", ["v18", "v19"])
@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf"])
def test_each_chromosome_equals_the_result_of_its_own_bundle(
    panels: tuple[Panel, ...], tmp_path: Path, variant: str, name: str
) -> None:
    target = write(tmp_path / "t.vcf.gz", ["20", "21"], N, every=3, samples=TARGETS)
    done: list[int] = []
    whole = impute_file(
        Imputer(bundle_of(tmp_path / "both", panels[:2], variant)), target, tmp_path / name, progress=done.append
    )
    assert sum(done) == whole.summary["n_sites"] == 2 * len(AUTOSOME_POSITIONS)
    for chrom, panel in zip(("20", "21"), panels[:2], strict=True):
        alone = tmp_path / f"{chrom}-{name}"
        part = impute_file(Imputer(bundle_of(tmp_path / chrom, (panel,), variant)), target, alone)
        assert rows(tmp_path / name, chrom) == rows(alone)
        assert part.report.absent == {"21" if chrom == "20" else "20": len(AUTOSOME_POSITIONS) // 3 + 1}
    assert rows(tmp_path / name) == [*rows(tmp_path / name, "20"), *rows(tmp_path / name, "21")]


def test_report_covers_each_chromosome_and_the_whole_file(bundle: Bundle, tmp_path: Path) -> None:
    target = write(tmp_path / "t.vcf.gz", ["20", "21", "22"], N, every=4, samples=TARGETS)
    report = impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz", qc_report=tmp_path / "qc.json").report
    summary = json.loads((tmp_path / "qc.json").read_text())
    assert summary["absent"] == {"22": 20}
    assert [(c["chrom"], c["n_used"], c["n_target_sites"]) for c in summary["chromosomes"]] == [
        ("20", 20, 20), ("21", 20, 20),
    ]  # fmt: skip
    assert (summary["n_used"], summary["n_samples"], summary["overlap_share"]) == (40, 3, 1.0)
    assert {stretch["chrom"] for stretch in summary["density"]} == {"20", "21"}
    assert report.typed_per_mb == pytest.approx(report.parts[0].typed_per_mb)
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert list(file.header.contigs) == ["20", "21"]


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf"])
def test_distributed_tasks_write_the_file_of_one_process(panels: tuple[Panel, ...], tmp_path: Path, name: str) -> None:
    """Each chromosome and each region of X is cut into chunks separately."""
    target = write(tmp_path / "t.vcf.gz", ["20", "21", "X"], N, every=3, males=MALES, samples=TARGETS)
    bundle = bundle_of(tmp_path / "bundle", panels)
    settings = Settings(tmp_path / "bundle", "fast", True, batch_size=64, threads=1)
    (tmp_path / "whole").mkdir()
    out, whole = tmp_path / name, tmp_path / "whole" / name
    plan = plan_job(settings, target, out, ImputeOptions(), chunking=ChunkSpec(0.4), work=tmp_path / "work")
    assert len({chunk.panel for chunk in plan.job.chunks}) == 5 < len(plan.job.chunks)
    imputed = run_job(plan, InProcess(), out)
    expected = impute_file(Imputer(bundle, mode="fast", ignore_phase=True), target, whole)
    assert rows(out) == rows(whole)
    for chrom in ("20", "21", "X"):
        assert rows(out, chrom) == rows(whole, chrom)
    assert (imputed.report, imputed.summary) == (expected.report, expected.summary)


def test_distributed_tasks_read_x_as_one_process_does(panels: tuple[Panel, ...], tmp_path: Path) -> None:
    vcf = write(tmp_path / "x.vcf.gz", ["X"], N, males=MALES, samples=REFERENCE)
    job = plan_panel(vcf, region=None, chunk_mb=0.7, work=tmp_path / "work")
    manifest = convert_from(job, InProcess(), tmp_path / "panel", maps=[], region=None, **OPTIONS)
    assert [facts["digest"] for facts in manifest["stretches"]] == [panel.digest for panel in panels[2:]]


def test_frequencies_are_compared_on_all_chromosomes(bundle: Bundle, tmp_path: Path) -> None:
    target = write(tmp_path / "t.vcf.gz", ["20", "21"], N, every=2, samples=TARGETS)
    report, _ = check_target(Imputer(bundle), target)
    whole, parts = report.frequencies, [part.frequencies for part in report.parts]
    assert whole.n_sites == sum(part.n_sites for part in parts) == report.n_used
    assert sum(n for _, _, n in whole.cells) == whole.n_sites
    panels = [bundle.part(panel.digest).panel for panel in bundle.panels[:2]]
    theirs = np.concatenate([panel.af[::2] for panel in panels])
    ours = np.concatenate([haplotypes(chrom, N)[::2, TARGETS].mean(axis=(1, 2)) for chrom in ("20", "21")])
    assert whole.correlation == pytest.approx(np.corrcoef(theirs, ours)[0, 1], abs=1e-4)


def test_region_selects_its_chromosome(bundle: Bundle, tmp_path: Path) -> None:
    target = write(tmp_path / "t.vcf.gz", ["20", "21"], N, every=3, samples=TARGETS)
    impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz", ImputeOptions(region="21:500000-600000"))
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert [(r.chrom, r.pos) for r in file] == [("21", pos) for pos in range(500_000, 600_001, 25_000)]
    for region in ("22", "21:1-9"):
        with pytest.raises(InputError) as caught:
            impute_file(Imputer(bundle), target, tmp_path / "none.vcf.gz", ImputeOptions(region=region))
        assert caught.value.code == "region_empty"


def test_target_without_any_chromosome_of_the_panels_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    target = write(tmp_path / "t.vcf", ["22"], N)
    with pytest.raises(InputError) as caught:
        impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz")
    assert caught.value.code == "chromosome_missing"
    assert not (tmp_path / "out.vcf.gz").exists()


@pytest.mark.parametrize("kind", ["t.vcf.gz", "t.vcf"])
def test_x_is_imputed_whole_with_the_ploidy_of_each_region(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    target = write(tmp_path / kind, ["X"], N, every=3, males=MALES, samples=TARGETS)  # S10 is male
    imputed = impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz")
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        found = {record.pos: [len(record.samples[name]["GT"]) for name in ("S9", "S10", "S11")] for record in file}
    assert list(found) == X_POSITIONS
    assert all(ploidy == [2, 1 if between(pos) else 2, 2] for pos, ploidy in found.items())
    assert imputed.report.n_haploid == 1
    assert [part.n_haploid for part in imputed.report.parts] == [0, 1, 0]
    assert imputed.report.n_homozygous_coded == 0


def test_dosages_do_not_cross_a_change_of_ploidy(bundle: Bundle, panels: tuple[Panel, ...], tmp_path: Path) -> None:
    """Typed sites in the PAR do not change dosages outside of it."""
    whole = write(tmp_path / "whole.vcf.gz", ["X"], N, every=3, males=MALES, samples=TARGETS)
    lines = text_of(["X"], N, every=3, males=MALES, samples=TARGETS).splitlines(keepends=True)
    kept = [line for line in lines if line.startswith("#") or between(int(line.split("\t")[1]))]
    assert len(kept) < len(lines)
    middle = write_vcf(tmp_path / "middle.vcf.gz", "".join(kept), index=True)
    for path in (whole, middle):
        impute_file(Imputer(bundle), path, path.with_suffix(".out.vcf.gz"))
    outputs = [rows(path.with_suffix(".out.vcf.gz")) for path in (whole, middle)]
    assert [row for row in outputs[0] if between(int(row.split("\t")[1]))] == outputs[1]


def test_homozygous_coded_males_are_reported(bundle: Bundle, tmp_path: Path) -> None:
    target = write(tmp_path / "t.vcf", ["X"], N, males=MALES, doubled=(10,), samples=TARGETS)
    report, refusal = check_target(Imputer(bundle), target)
    assert refusal is None
    assert (report.n_homozygous_coded, report.n_haploid) == (1, 0)
    assert [part.n_homozygous_coded for part in report.parts] == [0, 1, 0]


def test_validation_of_x_excludes_the_whole_sample(panels: tuple[Panel, ...]) -> None:
    panel = panels[3]
    memory = ReferenceSubset(panel, panel.training_haplotypes)
    held = set(panel.haplotypes_of(panel.validation).tolist())
    assert held.isdisjoint(memory.haplotypes.tolist())
    everyone = ReferenceSubset(panel, np.arange(panel.n_haplotypes))
    for sample, pair in enumerate(panel.pairs.tolist()):
        assert everyone.rows_of_sample(panel.haplotypes_of([sample])).tolist() == [pair, pair]
