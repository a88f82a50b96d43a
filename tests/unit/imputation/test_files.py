"""Imputation from file to file on a small cut of the demo data, read back with pysam and bcftools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from tests.helpers.tiny import perturbed_bundle, tiny_config
from tests.helpers.vcf_text import Record, vcf_text, write_vcf
from vcfbert.bundle.contents import Bundle
from vcfbert.errors import InputError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.qc import QcReport
from vcfbert.imputation.files import ImputeOptions, check_target, impute_file, panel_interval, read_target
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.network_predictor import NetworkPredictor

ARRAY = Path(__file__).parents[3] / "data/demo/target_array_phased.vcf.gz"


@pytest.fixture(scope="module")
def bundle(demo_cut: Panel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = tiny_config({"encode": {"window": 256, "flank": 16}})
    out = tmp_path_factory.mktemp("bundle") / "v18"
    return perturbed_bundle(out, [demo_cut], "v18", config, size=0.1)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples of the phased array, all its sites."""
    path = tmp_path_factory.mktemp("target") / "target.vcf.gz"
    with pysam.VariantFile(str(ARRAY)) as source:
        source.subset_samples(list(source.header.samples)[5:8])
        with pysam.VariantFile(str(path), "wz", header=source.header) as sink:
            for record in source:
                sink.write(record)
    return path


def records(path: Path) -> list[pysam.VariantRecord]:
    with pysam.VariantFile(str(path)) as source:
        return list(source)


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf", "out.vcf"])
def test_imputed_file_has_the_imputers_values_in_each_format(
    bundle: Bundle, target: Path, tmp_path: Path, name: str
) -> None:
    panel = bundle.panels[0]
    told: list[int] = []
    out = tmp_path / name
    imputed = impute_file(
        Imputer(bundle), target, out, begin=told.append, progress=told.append, qc_report=tmp_path / "qc.json"
    )
    assert told[0] == panel.n_sites == sum(told[1:])
    assert (tmp_path / "qc.json").is_file()
    (matched,), _ = read_target(target, [panel])
    assert imputed.report.n_used == len(matched.panel_site) > 5

    found = records(out)
    assert [r.pos for r in found if len(r.alts or ()) == 1][:50] == panel.sites.pos[:50].tolist()
    blocks = list(Imputer(bundle).impute(matched))
    dosage = np.concatenate([b.haplotype_dosage for b in blocks])
    by_site = {(r.pos, r.ref, r.alts): r for r in found}
    for site in range(0, panel.n_sites, 37):
        key = (int(panel.sites.pos[site]), panel.sites.ref[site], (panel.sites.alt[site],))
        if key not in by_site:
            continue  # joined again with the other alleles of its record
        record = by_site[key]
        assert tuple(record.samples) == matched.samples
        written = np.array([call["HDS"] for call in record.samples.values()])
        if site not in matched.panel_site:
            np.testing.assert_allclose(written, dosage[site], atol=6e-4)
            called = np.array([call["GT"] for call in record.samples.values()])
            assert np.array_equal(called, written >= 0.5)
    for row, site in enumerate(matched.panel_site):
        record = by_site[int(panel.sites.pos[site]), panel.sites.ref[site], (panel.sites.alt[site],)]
        assert [list(call["GT"]) for call in record.samples.values()] == matched.alleles[row].tolist()


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")
def test_bcftools_reads_the_imputed_file_through_its_index(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf.gz"
    impute_file(Imputer(bundle), target, out)
    command = ["bcftools", "query", "-r", "20:1050000-1060000", "-f", "%POS\t%INFO/DR2[\t%DS]\n", str(out)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = answer.stdout.splitlines()
    expected = [r.pos for r in records(out) if 1_050_000 <= r.pos <= 1_060_000]
    assert [int(line.split("\t")[0]) for line in lines] == expected
    assert len(expected) > 20
    assert not answer.stderr


def test_region_has_the_same_records_as_the_whole_file(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.vcf", tmp_path / "part.vcf"
    impute_file(Imputer(bundle), target, whole)
    impute_file(Imputer(bundle), target, part, ImputeOptions("chr20:1040000-1060000"))
    expected = [str(r) for r in records(whole) if 1_040_000 <= r.pos <= 1_060_000]
    assert [str(r) for r in records(part)] == expected
    assert len(expected) > 50


def test_panel_interval_gives_sites_within_the_region(bundle: Bundle) -> None:
    panel = bundle.panels[0]
    pos = panel.sites.pos
    assert panel_interval(panel, None) == (0, panel.n_sites)
    assert panel_interval(panel, "20") == (0, panel.n_sites)
    assert panel_interval(panel, f"20:{pos[3]}-{pos[10]}") == (
        int(np.flatnonzero(pos == pos[3])[0]),
        int(np.flatnonzero(pos == pos[10])[-1]) + 1,
    )
    for region in ("21", "20:5-10"):
        with pytest.raises(InputError, match="the panel has no site in") as caught:
            panel_interval(panel, region)
        assert caught.value.code == "region_empty"
        assert f"20:{pos[0]}-{pos[-1]}" in str(caught.value)


def typed_records(panel: Panel, call: str) -> list[Record]:
    """Every twentieth SNP of the panel, two samples with the same call."""
    sites = panel.sites
    snps = [i for i in range(0, panel.n_sites, 20) if len(sites.ref[i]) == len(sites.alt[i]) == 1]
    rows = {int(sites.pos[i]): (int(sites.pos[i]), sites.ref[i], sites.alt[i], f"{call} {call}") for i in snps}
    return list(rows.values())


def test_refused_unphased_file_leaves_only_the_report(bundle: Bundle, tmp_path: Path) -> None:
    unphased = write_vcf(tmp_path / "unphased.vcf", vcf_text(typed_records(bundle.panels[0], "0/1")))
    folder = tmp_path / "out"
    with pytest.raises(InputError, match="phase it first") as caught:
        impute_file(Imputer(bundle), unphased, folder / "out.vcf.gz", qc_report=folder / "qc.json")
    assert (caught.value.code, caught.value.exit_code) == ("unphased", 2)
    assert not any("out.vcf" in p.name for p in folder.iterdir())
    assert (folder / "qc.json").is_file()


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf", "out.vcf"])
def test_output_not_kept_has_the_same_bytes_without_index_and_fsync(
    bundle: Bundle, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kept, read_once, told = tmp_path / "kept" / name, tmp_path / "once" / name, list[QcReport]()
    imputed = impute_file(Imputer(bundle), target, kept)
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("nothing of it is kept"))
    impute_file(Imputer(bundle), target, read_once, kept=False, reported=told.append)
    assert [path.name for path in read_once.parent.iterdir()] == [name]
    assert read_once.read_bytes() == kept.read_bytes()
    assert [report.summary() for report in told] == [imputed.report.summary()]


def test_homozygous_calls_need_no_phase(bundle: Bundle, tmp_path: Path) -> None:
    target = write_vcf(tmp_path / "homozygous.vcf", vcf_text(typed_records(bundle.panels[0], "0/0")))
    impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz")
    assert len(records(tmp_path / "out.vcf.gz")) > 100


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf"])
def test_haploid_samples_stay_haploid_beside_diploid_ones(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """Sample B has once the haplotype that A has twice. Only the number of written and counted alleles differs."""
    rows = [(pos, ref, alt, "1|1 1") for pos, ref, alt, _ in typed_records(bundle.panels[0], "1|1")]
    rows[2] = (*rows[2][:3], ".|. .")
    target = write_vcf(tmp_path / "males.vcf", vcf_text(rows))
    report = impute_file(Imputer(bundle), target, tmp_path / name).report
    assert (report.n_samples, report.n_haploid) == (2, 1)
    found = records(tmp_path / name)
    assert len(found) > 100
    for record in found:
        twice, once = record.samples["A"], record.samples["B"]
        n_alts = len(record.alts or ())
        assert (len(twice["GT"]), len(once["GT"]), len(once["GP"])) == (2, 1, n_alts + 1)
        assert twice["HDS"] == pytest.approx(once["HDS"] * 2, abs=2e-3)
        assert once["DS"] == once["HDS"]
        assert sum(once["GP"]) == pytest.approx(1, abs=2e-3)
        assert 2 * record.info["AF"][0] == pytest.approx(twice["DS"][0], abs=2e-3)
    assert {r.samples["B"]["GT"] for r in found if r.info.get("TYPED")} == {(1,)}


def test_output_that_is_the_target_is_refused(bundle: Bundle, tmp_path: Path, target: Path) -> None:
    copy = Path(shutil.copy(target, tmp_path / "t.vcf.gz"))
    before = copy.read_bytes()
    with pytest.raises(InputError) as caught:
        impute_file(Imputer(bundle), copy, tmp_path / "." / "t.vcf.gz")
    assert caught.value.code == "same_file"
    assert copy.read_bytes() == before


def test_failure_while_imputing_leaves_no_output(
    bundle: Bundle, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = NetworkPredictor.predict

    def fail_later(predictor, part, window, phased):  # type: ignore[no-untyped-def]
        if window.index == 2:
            raise RuntimeError("half way")
        return real(predictor, part, window, phased)

    monkeypatch.setattr(NetworkPredictor, "predict", fail_later)
    with pytest.raises(RuntimeError, match="half way"):
        impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz")
    assert list(tmp_path.iterdir()) == []


def test_parsed_options_equal_constructed_options() -> None:
    parsed = ImputeOptions.parse(region=" 20:5-10 ", format="bcf", fields="gq, ds", min_dr2=0.3)
    assert parsed == ImputeOptions("20:5-10", "bcf", ("DS", "GQ"), 0.3)
    assert parsed.fields == ("GT", "DS", "GQ")
    assert ImputeOptions.parse(region="", fields="", format=None) == ImputeOptions()
    assert ImputeOptions().fields == ("GT", "DS", "HDS", "GP")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"region": "20:9-3"}, "region_invalid"),
        ({"format": "vcf"}, "option_format"),
        ({"fields": "GT,XX"}, "option_fields"),
        ({"min_dr2": 1.5}, "option_min_dr2"),
        ({"min_dr2": float("nan")}, "option_min_dr2"),
    ],
)
def test_invalid_option_is_refused(given: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        ImputeOptions.parse(**given)
    assert caught.value.code == code
    assert code == "region_invalid" or caught.value.hint


def test_fields_and_min_dr2_shape_the_file_and_the_summary(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    whole = impute_file(Imputer(bundle), target, tmp_path / "whole.vcf.gz")
    few = impute_file(Imputer(bundle), target, tmp_path / "few.vcf.gz", ImputeOptions(fields=("GQ",), min_dr2=0.5))
    every, kept = records(tmp_path / "whole.vcf.gz"), records(tmp_path / "few.vcf.gz")
    assert list(kept[0].format) == ["GT", "GQ"]
    expected = [r.pos for r in every if r.info.get("TYPED") or max(r.info["DR2"]) >= 0.5]
    assert [r.pos for r in kept] == expected
    assert 0 < len(kept) < len(every)
    n_alts = [sum(len(r.alts or ()) for r in found) for found in (every, kept)]
    assert [one.summary["n_sites"] for one in (whole, few)] == n_alts
    assert n_alts[0] == bundle.panels[0].n_sites == few.summary["n_sites"] + few.summary["n_left_out"]
    assert whole.summary["n_samples"] == 3
    assert sum(s["typed"] for s in whole.summary["density"]) == whole.report.n_used
    counted = sum(b["n"] for b in whole.summary["dr2_by_maf"])
    imputed = [r for r in every if not r.info.get("TYPED")]
    assert 0 < counted <= sum(len(r.alts or ()) for r in imputed)
    singles = [r for r in imputed if len(r.alts or ()) == 1]
    assert sum(b["n"] for b in whole.summary["gq_histogram"]) == 3 * len(singles)
    assert json.loads(json.dumps(whole.summary)) == whole.summary


def test_cancelling_stops_between_blocks_and_leaves_no_output(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    done: list[int] = []

    def cancelled() -> None:
        if len(done) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz", progress=done.append, cancelled=cancelled)
    assert len(done) == 2
    assert list(tmp_path.iterdir()) == []


def test_dry_run_gives_the_report_of_imputing(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    report, refusal = check_target(Imputer(bundle), target)
    assert refusal is None
    assert report == impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz").report
    unphased = write_vcf(tmp_path / "unphased.vcf", vcf_text(typed_records(bundle.panels[0], "0/1")))
    report, refusal = check_target(Imputer(bundle), unphased)
    assert report.phased_share == 0
    assert refusal is not None
    assert refusal.code == "unphased"


@pytest.mark.parametrize(
    ("chrom", "alt", "shift", "code", "n_sites"),
    [
        ("20", "ACGTACGT", 0, "wrong_build", 20),
        ("20", None, 10**7, "no_overlap", 20),
        ("21", None, 0, "chromosome_missing", 0),
    ],
)
def test_refused_target_has_its_report_written_and_returned(
    bundle: Bundle, tmp_path: Path, chrom: str, alt: str | None, shift: int, code: str, n_sites: int
) -> None:
    records = [
        (pos + shift, ref, alt or its_alt, calls)
        for pos, ref, its_alt, calls in typed_records(bundle.panels[0], "0|1")[:20]
    ]
    target = write_vcf(tmp_path / "target.vcf", vcf_text(records, chrom=chrom))
    report, refusal = check_target(Imputer(bundle), target)
    assert refusal is not None
    assert (refusal.code, report.n_target_sites, report.n_samples) == (code, n_sites, 2)
    with pytest.raises(InputError) as caught:
        impute_file(Imputer(bundle), target, tmp_path / "out.vcf.gz", qc_report=tmp_path / "qc.json")
    assert caught.value.code == code
    written = json.loads((tmp_path / "qc.json").read_text())
    assert {name: written[name] for name in report.summary()} == report.summary()
    assert (tmp_path / "qc.tsv").is_file()
    assert not (tmp_path / "out.vcf.gz").exists()
