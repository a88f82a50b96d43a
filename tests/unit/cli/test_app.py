"""The command line: help, the commands from a panel to a comparison, and wrong options."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
import typer.main
import yaml

from tests.helpers.chains import Block, chain_text, moved_vcf, write_chain
from tests.helpers.chromosomes import write
from tests.helpers.command_line import TINY, TinyFiles, vcfbert
from tests.helpers.demo_cut import GENETIC_MAP
from tests.helpers.vcf_text import write_vcf
from vcfbert import __version__
from vcfbert.cli import app as cli
from vcfbert.config import load, profile, with_overrides
from vcfbert.constants import MAF_BIN_NAMES


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


def test_app_has_all_commands() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        "fit", "impute", "qc", "evaluate", "compare", "panel build", "panel inspect", "bundle inspect", "bundle sign",
        "bundle verify",
        "config show", "config apply", "config check", "data fetch-1kg", "simulate", "serve",
        "tune worker", "tune apply", "tune show", "registry list", "registry promote", "registry rollback",
        "remote impute", "remote fetch", "remote qc", "remote jobs", "remote models",
    }  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_parses(words: tuple[str, ...]) -> None:
    shown = vcfbert(*words, "--help")
    assert shown.code == 0
    assert "xample" in shown.out
    examples = re.findall(rf"vcfbert {' '.join(words)}\b[^\n&]*", COMMANDS[words].help or "")
    assert examples
    for example in examples:
        arguments = example.split()[1 + len(words) :]
        COMMANDS[words].make_context("vcfbert", arguments)  # raises where an option does not exist


@pytest.mark.parametrize(
    "arguments",
    [
        ["imputate"],
        ["impute"],
        ["impute", "--model", "m", "--target", "t", "--out", "o", "--thread", "2"],
        ["impute", "--model", "m", "--target", "t", "--out", "o", "--threads", "0"],
        ["impute", "--model", "m", "--target", "t", "--out", "o", "--batch-size", "many"],
        ["impute", "--model", "m", "--target", "t", "--out", "o.vcf", "--device", "tpu"],
        ["impute", "--model", "m", "--target", "t", "--out", "o.vcf", "--fields", "GT,AD"],
        ["impute", "--model", "m", "--target", "t", "--out", "o.vcf", "--min-dr2", "2"],
        ["fit", "--panel", "p", "--out", "o", "--variant", "v16"],
        ["fit", "--panel", "p", "--out", "o", "--profile", "tiny"],
        ["config", "show", "tiny"],
        ["panel", "inspect", "/no/such/panel"],
        ["bundle", "inspect", "/no/such/bundle"],
        ["bundle", "verify", "/no/such/bundle"],
        ["compare", "/no/such/report.json"],
        ["compare"],
        ["evaluate", "--truth", "/no/t.vcf", "--imputed", "/no/i.vcf", "--reference", "/no/p.vcf"],
        ["data", "fetch-1kg", "--chrom", "20", "--region", "20:9-1", "--out", "/no/where"],
    ],
    ids=" ".join,
)
def test_wrong_options_exit_with_2_and_a_message(arguments: list[str], tmp_path: Path) -> None:
    ended = vcfbert(*arguments)
    assert ended.code == 2
    assert ended.err.strip()
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_version_option_prints_the_version() -> None:
    assert vcfbert("--version").out == f"{__version__}\n"


def test_long_path_with_brackets_is_printed_unchanged(tmp_path: Path) -> None:
    """It is neither wrapped nor read as markup."""
    odd = tmp_path / ("[red]" + "x" * 90 + "[not closed")
    ended = vcfbert("config", "check", odd)
    assert str(odd) in ended.err
    assert "[params_missing]" in ended.err


# From a panel to a comparison


def test_fit_writes_a_bundle_and_its_metrics(tiny_files: TinyFiles, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    fitted = vcfbert(
        "fit", "--panel", tiny_files.panel, "--map", GENETIC_MAP, "--variant", "v17", "--holdout", "0.2", "--region",
        "20:1000000-1050000", "--out", out, "--no-track", "--json", *TINY,
    )  # fmt: skip
    assert fitted.code == 0, fitted.err
    assert fitted.json["bundle"] == str(out)
    assert 0.0 < fitted.json["metrics"]["val/f1"] <= 1.0
    assert "epoch 1/1" in fitted.err
    manifest = vcfbert("bundle", "inspect", out, "--json").json
    assert (manifest["variant"], manifest["k"]) == ("v17", 2)
    assert manifest["model"]["dims"] == 8
    (panel,) = vcfbert("panel", "inspect", out / "panel", "--json").json
    assert (panel["samples"], panel["validation samples"]) == (30, 6)
    assert panel["positions"].split("-")[1] < "1050001"
    with (tmp_path / "bundle.metrics.csv").open() as handle:
        assert [row["epoch"] for row in csv.DictReader(handle)] == ["0"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".checkpoints", "bundle", "bundle.metrics.csv"]


def test_fit_without_map_warns_of_the_assumed_rate(
    tiny_files: TinyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vcfbert("fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", tmp_path / "bundle", "--no-track", *TINY)
    assert "1 cM/Mb" in caplog.text


@pytest.mark.integration  # trains and records in MLflow: 7 s of CPU
def test_fit_records_a_run_in_mlflow(
    tiny_files: TinyFiles, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_store, tmp_path)
    fitted = vcfbert("fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", "bundle", "--json", *TINY)
    assert fitted.code == 0, fitted.err
    assert re.fullmatch("[0-9a-f]{32}", fitted.json["run_id"])
    assert (tmp_path / "mlartifacts").is_dir()


def test_fit_without_mlflow_names_the_option_that_skips_it(
    tiny_files: TinyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    fitted = vcfbert("fit", "--variant", "v18", "--panel", tiny_files.panel, "--out", "bundle", *TINY)
    assert fitted.code == 1
    assert "error [mlflow_missing]" in fitted.err
    assert "--no-track" in fitted.err


def test_bundle_inspect_and_verify_print_the_bundle(tiny_files: TinyFiles) -> None:
    shown = vcfbert("bundle", "inspect", tiny_files.bundle)
    assert "v18" in shown.out
    assert "val/f1" in shown.out
    verified = vcfbert("bundle", "verify", tiny_files.bundle)
    assert verified.code == 0
    assert "20: 300 sites, 60 haplotypes" in verified.out
    assert "v18: sound" in verified.out


@pytest.mark.parametrize("suffix", [".vcf.gz", ".bcf", ".vcf"])
def test_impute_writes_every_output_format(tiny_files: TinyFiles, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"imputed{suffix}"
    done = vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", out, "--threads", 1)
    assert done.code == 0, done.err
    assert "6 samples, 17 of 17 target sites used" in done.out
    with pysam.VariantFile(str(out)) as imputed:
        samples, records = list(imputed.header.samples), list(imputed)
    with pysam.VariantFile(str(tiny_files.target)) as target:
        assert samples == list(target.header.samples)
        typed = {record.pos: [call["GT"] for call in record.samples.values()] for record in target}
    assert len(records) == 300
    kept = {r.pos: [call["GT"] for call in r.samples.values()] for r in records if r.pos in typed}
    assert kept == typed
    dosages = np.array([call["DS"] for record in records for call in record.samples.values()], dtype=float)
    assert ((dosages >= 0) & (dosages <= 2)).all()
    indexes = {".vcf.gz": {"imputed.vcf.gz.tbi"}, ".bcf": {"imputed.bcf.csi"}, ".vcf": set()}[suffix]
    assert {p.name for p in tmp_path.iterdir()} == {out.name} | indexes


def test_impute_region_equals_the_same_region_of_the_whole(tiny_files: TinyFiles, tmp_path: Path) -> None:
    """The region alone is written, with the same values as in the whole file."""
    arguments = ("--model", tiny_files.bundle, "--target", tiny_files.target, "--threads", 1, "--device", "cpu")
    whole, part, report = tmp_path / "whole.vcf.gz", tmp_path / "part.vcf.gz", tmp_path / "qc.json"
    assert vcfbert("impute", *arguments, "--out", whole).code == 0
    region = "20:1020000-1060000"
    done = vcfbert(
        "impute", *arguments, "--out", part, "--region", region, "--batch-size", 2, "--qc-report", report, "--json"
    )
    assert done.code == 0, done.err
    assert done.json["out"] == str(part)
    assert done.json["qc"]["n_used"] == 17
    assert json.loads(report.read_text())["counts"]["matched"] == 17
    assert (tmp_path / "qc.tsv").read_text().startswith("chrom\tpos\t")
    with pysam.VariantFile(str(whole)) as a, pysam.VariantFile(str(part)) as b:
        expected = [(r.pos, [c["DS"] for c in r.samples.values()]) for r in a.fetch(region=region)]
        assert [(r.pos, [c["DS"] for c in r.samples.values()]) for r in b] == expected
        assert expected


def test_impute_writes_the_chosen_fields_and_sites(tiny_files: TinyFiles, tmp_path: Path) -> None:
    arguments = ("--model", tiny_files.bundle, "--target", tiny_files.target, "--threads", 1)
    chosen = ("--fields", "ds,gq", "--min-dr2", 0.4)
    done = vcfbert("impute", *arguments, "--out", tmp_path / "few.bcf", *chosen, "--json")
    with pysam.VariantFile(str(tmp_path / "few.bcf")) as few:
        records = list(few)
    assert {tuple(r.format) for r in records} == {("GT", "DS", "GQ")}
    assert all(r.info.get("TYPED") or max(r.info["DR2"]) >= 0.4 for r in records)
    assert done.json["summary"]["n_sites"] >= len(records) > 0
    assert done.json["summary"]["n_left_out"] > 0


def test_qc_writes_the_report_and_refuses_what_impute_refuses(tiny_files: TinyFiles, tmp_path: Path) -> None:
    arguments = ("qc", "--model", tiny_files.bundle, "--json", tmp_path / "qc.json", "--target")
    done = vcfbert(*arguments, tiny_files.target)
    assert done.code == 0, done.err
    assert re.search(r"^n_used +17$", done.out, re.MULTILINE)
    assert json.loads((tmp_path / "qc.json").read_text())["n_used"] == 17
    assert (tmp_path / "qc.tsv").is_file()
    refused = vcfbert(*arguments, tiny_files.unphased)
    assert refused.code == 2
    assert "error [unphased]" in refused.err
    assert json.loads((tmp_path / "qc.json").read_text())["phased_share"] < 1


def test_impute_and_qc_lift_a_target_of_another_build(tiny_files: TinyFiles, tmp_path: Path) -> None:
    with pysam.VariantFile(str(tiny_files.target)) as target:
        text = str(target.header) + "".join(map(str, target))
    other = write_vcf(tmp_path / "other.vcf", moved_vcf(text, [Block(0, 2_000_000, 5_000)]))
    chain = write_chain(tmp_path / "a.chain.gz", chain_text([Block(5_000, 2_000_000, 0)]))
    arguments = ("--model", tiny_files.bundle, "--target", other)
    refused = vcfbert("impute", *arguments, "--out", tmp_path / "none.vcf")
    assert refused.code == 2
    assert "--chain" in refused.err
    checked = vcfbert("qc", *arguments, "--chain", chain)
    assert checked.code == 0, checked.err
    assert "17 sites are lifted over" in checked.out
    done = vcfbert("impute", *arguments, "--chain", chain, "--out", tmp_path / "lifted.vcf")
    assert done.code == 0, done.err
    vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", tmp_path / "ours.vcf")
    assert (tmp_path / "lifted.vcf").read_text() == (tmp_path / "ours.vcf").read_text()


def test_evaluate_scores_and_compare_compares_them(tiny_files: TinyFiles, tmp_path: Path) -> None:
    imputed = tmp_path / "imputed.vcf.gz"
    vcfbert("impute", "--model", tiny_files.bundle, "--target", tiny_files.target, "--out", imputed, "--threads", 1)
    arguments = ("--truth", tiny_files.truth, "--imputed", imputed, "--typed", tiny_files.target)
    scored = vcfbert("evaluate", *arguments, "--reference", tiny_files.panel, "--json")
    assert scored.code == 0, scored.err
    assert [row["bin"] for row in scored.json["rows"]] == ["1-5%", "5-50%", "all"]
    assert scored.json["rows"][-1]["sites"] == 300 - 17
    assert 0.3 < scored.json["rows"][-1]["aggregate_r2"] <= 1.0
    by_store = vcfbert("evaluate", *arguments, "--reference", tiny_files.bundle / "panel", "--json")
    assert by_store.json == scored.json
    assert "agg r2" in vcfbert("evaluate", *arguments, "--reference", tiny_files.panel).out

    reports = []
    for variant, seconds in (("v17", 4.0), ("v18", 2.0)):
        reports.append(tmp_path / f"{variant}.json")
        report = {"variant": variant, "array": scored.json, "training": {"ms_per_batch": seconds}}
        reports[-1].write_text(json.dumps(report))
    peers = tmp_path / "peers.json"
    peers.write_text(json.dumps({"beagle": {"array": scored.json, "seconds": 3.0}}))
    compared = vcfbert("compare", *reports, "--peers", peers, "--out", tmp_path / "reports", "--json")
    assert compared.code == 0, compared.err
    assert [row["method"] for row in compared.json["rows"]] == ["v17", "v18", "beagle"]
    assert compared.json == json.loads((tmp_path / "reports" / "compare.json").read_text())
    assert {p.suffix for p in (tmp_path / "reports").iterdir()} == {".html", ".json", ".md", ".png", ".svg"}
    assert "Beagle" in vcfbert("compare", *reports, "--peers", peers).out


# Panels and configuration


def test_panel_inspect_counts_samples_and_sites(tiny_files: TinyFiles) -> None:
    (facts,) = vcfbert("panel", "inspect", tiny_files.panel, "--json").json
    assert (facts["chromosome"], facts["samples"], facts["sites"]) == ("20", 30, 300)
    assert sum(facts[f"sites, MAF {name}"] for name in MAF_BIN_NAMES) + facts["monomorphic sites"] == 300
    assert facts["digest"] == vcfbert("panel", "inspect", tiny_files.bundle / "panel", "--json").json[0]["digest"]
    assert facts["digest"] in vcfbert("panel", "inspect", tiny_files.panel).out


def test_panel_build_of_several_files_can_be_fitted(tmp_path: Path) -> None:
    for chrom in ("20", "X"):
        write(tmp_path / f"chr{chrom}.vcf.gz", [chrom], 12, males=[1, 4])
    out = tmp_path / "panel"
    built = vcfbert("panel", "build", "--panel", tmp_path / "chr{chrom}.vcf.gz", "--holdout", "0.2", "--out", out)
    assert built.code == 0, built.err
    assert re.match(r"20: 80 sites, 12 samples, 2 held out\nX:1-2699520: 40 sites", built.out)
    assert "12 samples (2 haploid), 2 held out" in built.out
    bundle = tmp_path / "bundle"
    fitted = vcfbert("fit", "--panel", out, "--variant", "v18", "--out", bundle, "--no-track", *TINY)
    assert fitted.code == 0, fitted.err
    target = write(tmp_path / "t.vcf.gz", ["20", "21", "X"], 12, doubled=[1])
    imputed = vcfbert("impute", "--model", bundle, "--target", target, "--out", tmp_path / "out.vcf.gz")
    assert imputed.code == 0, imputed.err
    assert "excluded, because the model has no such chromosome: 21 (80 records)" in imputed.err
    assert "1 samples are diploid and never heterozygous on X" in imputed.err
    checked = vcfbert("qc", "--model", bundle, "--target", target)
    assert "X:2699521-" in checked.out
    summary = vcfbert("panel", "build", "--panel", tmp_path / "chr20.vcf.gz", "--out", tmp_path / "one", "--json").json
    assert [(one["chrom"], one["n_sites"]) for one in summary["stretches"]] == [("20", 80)]


def test_last_parameter_on_the_command_line_wins() -> None:
    """It overrides the profile and earlier parameters. A path is never read as YAML."""
    config = with_overrides("cpu", ["train.epochs=3", "train.epochs=5", "prepare.seed=1"], prepare={"panel": "a: b"})
    assert (config.train.epochs, config.prepare.panel, config.prepare.seed) == (5, "a: b", 1)
    cpu = profile("cpu")
    assert dataclasses.replace(config, train=cpu.train, prepare=cpu.prepare) == cpu


def test_config_show_apply_and_check_agree(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    assert vcfbert("config", "apply", "original", "--path", params).code == 0
    assert load(params) == profile("original")
    assert yaml.safe_load(vcfbert("config", "show", "original").out)["model"]["dims"] == 192
    assert vcfbert("config", "show", "gpu", "--json").json["train"]["precision"] == profile("gpu").train.precision
    assert "valid" in vcfbert("config", "check", params).out
