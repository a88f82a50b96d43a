"""The benchmarks run at tiny sizes and write what the README reads."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pysam
import pytest

from tests.helpers.command_line import TINY, TinyFiles
from tests.helpers.demo_cut import cut_demo
from tests.helpers.tiny import perturbed_bundle
from vcfbert.bundle.load import load_bundle
from vcfbert.config import EvaluateConfig
from vcfbert.datasets.simulate import Simulation, simulate
from vcfbert.evaluation.baselines import find_baselines
from vcfbert.evaluation.protocols import array_protocol

ROOT = Path(__file__).resolve().parents[2]
# Packages that a bare machine with a GPU need not have.
NOT_NEEDED = (
    *("faiss", "mlflow", "dvc", "cyvcf2", "pysam", "yaml", "scipy", "pandas", "lightning_fabric", "safetensors"),
    *("pydantic", "pydantic_core", "rich", "typer"),
)


def run(arguments: list[str], *, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), str(ROOT)])
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **environment, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
    )


def report_of(script: str, arguments: list[str], out: Path, **environment: str) -> dict[str, Any]:
    done = run([f"benchmarks/{script}", *arguments, "--json", str(out)], **environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["machine"]["cores"] >= 1
    return dict(report)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A folder for PYTHONPATH in which every package that is not needed refuses to be imported."""
    for name in NOT_NEEDED:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not on this machine')\n")
    return str(tmp_path)


def test_variants_benchmark_runs_with_torch_and_numpy_alone(tmp_path: Path, bare: str) -> None:
    model = ["--dims", "8", "--layers", "2", "--heads", "2", "--window", "64", "--batch", "2", "--rounds", "1"]
    sizes = [*model, "--sites", "300", "--haplotypes", "40"]
    report = report_of("bench_variants.py", sizes, tmp_path / "out.json", PYTHONPATH=bare)
    rows = {(row["case"], row["k"]): row for row in report["rows"]}
    assert set(rows) == {(case, k) for case in ("v17 as designed", "v17 as run", "v18") for k in (1, 8)}
    assert all(row["ms_per_batch"] > 0 and row["peak_mib"] > row["rise_mib"] > 0 for row in rows.values())
    # Four queries, and eight retrieved for each, pass V17's encoder as it was designed; V18's only the queries.
    assert rows["v17 as designed", 8]["encoded_rows"] == 4 + 4 * 8
    assert rows["v17 as run", 8]["encoded_rows"] <= 36
    assert rows["v18", 8]["encoded_rows"] == 4
    assert rows["v18", 8]["refresh_seconds"] > 0 == rows["v17 as run", 8]["refresh_seconds"]
    assert len(report["reached"]) == 6


def test_refresh_benchmark_finds_neighbours_of_flattened_space(tmp_path: Path) -> None:
    arguments = ["--simulated", "--window", "60", "--dims", "8", "--steps", "1", "--runs", "1"]
    report = report_of("bench_refresh.py", arguments, tmp_path / "out.json")
    assert report["search"]["same_distances"] is True
    assert report["search"]["times_less_memory"] == 8
    assert 0 < report["epoch"]["refresh_share_of_epoch"] < 1


@pytest.mark.slow  # 73 s of CPU; tests/unit/benchmarks checks the grid and the tables on less
def test_retrieval_study_measures_every_cell(tmp_path: Path) -> None:
    panel = cut_demo(tmp_path, samples=30, sites=300, targets=2)
    arguments = ["--quick", "--no-track", "--panel", str(panel), "--region", "20", "--out", str(tmp_path / "out")]
    arguments += ["--storage", f"sqlite:///{tmp_path / 'studies.db'}", "--checkpoints", str(tmp_path / "checkpoints")]
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "retrieval.md").write_text("Before\n<!-- table: retrieval -->\n<!-- end -->\nAfter\n")
    done = run(["benchmarks/bench_retrieval.py", *arguments, "--docs", str(docs)])
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "bench_retrieval.json").read_text())
    cells = report["cells"]
    assert {(c["network"], c["retriever"]) for c in cells if c["part"] == "retriever"} == {
        *((network, r) for network in ("v18", "copying") for r in ("embedding", "hamming", "runs", "random", "none")),
        *(("v17", retriever) for retriever in ("hamming", "runs", "random", "none")),
    }
    refresh = {
        c["refresh_every"]: sum("refresh/seconds" in e for e in c["curve"]) for c in cells if c["part"] == "refresh"
    }
    assert refresh == {0: 0, 1: 5, 2: 2, 3: 1, 5: 1}
    assert all(-1e-6 <= c["value"] <= 1 for c in cells)
    assert (docs / "retrieval.png").stat().st_size > 10_000
    page = (docs / "retrieval.md").read_text()
    assert page.startswith("Before")
    assert "| Li-Stephens HMMs, unfitted, K = 16 |" in page
    assert "| never | 0 | 0.000 |" in page


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("msprime", reason="the extra `simulate` is not installed")
    out = tmp_path_factory.mktemp("bench") / "small"
    simulate(Simulation(haplotypes=60, targets=6, length_mb=0.3, typed_per_mb=100), out)
    return out


def test_imputation_benchmark_times_and_scores_baselines(simulated: Path, tmp_path: Path) -> None:
    settings = ["--set" if word == "-S" else word for word in TINY]
    arguments = ["--data", str(simulated), "--variant", "v18", "--quick", "--threads", "1", *settings]
    report = report_of("bench_imputation.py", arguments, tmp_path / "out.json")
    case, one = report["cases"]
    sizes = {name: case[name] for name in ("data", "variant", "haplotypes", "targets")}
    assert sizes == {"data": "small", "variant": "v18", "haplotypes": 60, "targets": 6}
    assert case["fit"]["note"] is None
    assert (one["data"], one["targets"], one["fit"]) == ("small, 1 target", 1, None)
    assert one["rows"][0]["runs"] == 1
    rows = {(row["tool"], row["input"]): row for row in case["rows"]}
    assert rows["minimac4", "unphased"]["note"]
    assert rows["vcfbert", "unphased"]["note"].startswith("error [unphased]")
    ran = [("vcfbert", "phased")]
    ran += [("beagle", kind) for kind in ("phased", "unphased") if "beagle" in find_baselines()]
    ran += [("minimac4", "phased")] if "minimac4" in find_baselines() else []
    for row in (rows[key] for key in ran):
        assert (row["note"], row["runs"]) == (None, 1)
        assert row["ms_per_target"] == pytest.approx(1e3 * row["seconds"] / 6, rel=0.01)
        assert row["peak_mib"] > (20 if row["tool"] != "minimac4" else -1)  # it may be over before it is looked at
        assert 0.2 < row["r2"]["all"] <= 1
        for name, of in (("times_beagle", "seconds"), ("cpu_times_beagle", "cpu_seconds")):
            of_beagle = rows["beagle", row["input"]].get(of)
            assert row[name] == (of_beagle and pytest.approx(row[of] / of_beagle, abs=1e-3))


def test_million_benchmark_imputes_from_nested_panels(tmp_path: Path) -> None:
    sizes = ["--haplotypes", "200", "400", "--targets", "4", "--length-mb", "0.1", "--runs", "1"]
    report = report_of("bench_million.py", sizes, tmp_path / "out.json")
    assert [(row["haplotypes"], row["input"]) for row in report["rows"]] == [
        (200, "phased"), (400, "phased"), (200, "unphased"), (400, "unphased"),
    ]  # fmt: skip
    assert all(0 < row["cpu_seconds"] < 60 and 0 < row["r2"]["all"] <= 1 for row in report["rows"])


def test_imputation_benchmark_samples_targets_evenly(simulated: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from bench_imputation import cut_targets as cut; "
    done = run(["-c", f"{code}cut(Path(sys.argv[1]), Path(sys.argv[2]), 3)", str(simulated), str(tmp_path / "cut")],
               PYTHONPATH=str(ROOT / "benchmarks"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("target_truth", "target_array", "target_array_phased"):
        paths = [folder / f"{name}.vcf.gz" for folder in (simulated, tmp_path / "cut")]
        with pysam.VariantFile(str(paths[0])) as whole, pysam.VariantFile(str(paths[1])) as cut:
            assert list(cut.header.samples) == ["T00001", "T00003", "T00006"]
            expected = [[str(r).split()[9 + i] for i in (0, 2, 5)] for r in whole]
            assert [str(r).split()[9:] for r in cut.fetch("1")] == expected
    assert (tmp_path / "cut" / "panel.vcf.gz").read_bytes() == (simulated / "panel.vcf.gz").read_bytes()


def test_states_by_ibs_segments_hold_more_posterior_than_nearest(tmp_path: Path) -> None:
    report = report_of("bench_states.py", ["--quick"], tmp_path / "out.json")
    rows = {(row["way"], row["k"]): row for row in report["rows"]}
    ways = ["hamming", "runs", *(f"sorted {places}" for places in (4, 8, 16, 32))]
    assert set(rows) == {("all", 598), *((way, k) for way in ways for k in (16, 64))}
    assert rows["all", 598]["posterior_share"] == 1.0
    assert report["sort_seconds"] >= 0
    for way in ways:
        assert 0 < rows[way, 16]["posterior_share"] < rows[way, 64]["posterior_share"] < 1
    for k in (16, 64):
        assert rows["runs", k]["posterior_share"] > rows["hamming", k]["posterior_share"]
    shares = {(row["way"], row["k"]): row["posterior_share"] for row in report["unphased"]}
    assert all(shares["phased", k] > shares["genotypes", k] > 0 for k in (16, 64))


def test_ablation_measures_each_part_and_records_it_in_mlflow(tiny_files: TinyFiles, tmp_path: Path) -> None:
    models = tmp_path / "models"  # no V17
    models.mkdir()
    (models / "v18").symlink_to(tiny_files.fitted("v18"))
    # All parameters moved: a fit to so few samples may leave the mixture weights as they start.
    copying = perturbed_bundle(models / "v19", load_bundle(models / "v18").panels, "v19")
    arguments = ["--models", str(models), "--data", str(tiny_files.folder), "--threads", "1"]
    script, out = str(ROOT / "benchmarks" / "ablation.py"), tmp_path / "out.json"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run([script, *arguments, "--json", str(out)], folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == [
        "vote", "v17", "v18", "li-stephens", "states", "heads", "rates", "prior", "weights",
        "ignore-phase", "diploid", "averaged",
    ]  # fmt: skip
    assert (rows["v17"]["r2"], rows["v17"]["note"]) == ({}, f"no bundle {models / 'v17'}")
    assert "| V18 | phased |" in done.stdout
    assert "- not run: V17: no bundle" in done.stdout
    assert [rows[name]["k"] for name in ("vote", "v18", "li-stephens", "states", "weights")] == [32, 8, 60, 12, 12]
    assert [rows[name]["phasings"] for name in ("weights", "ignore-phase", "diploid", "averaged")] == [None, 8, 1, 8]
    parts = ("li-stephens", "states", "heads", "rates", "prior", "weights", "diploid", "averaged")
    assert len({json.dumps(rows[name]["r2"]) for name in parts}) == len(parts)  # each part changes something

    # As the pipeline and `vcfbert impute` would have it.
    config = EvaluateConfig(
        truth=str(tiny_files.truth),
        typed_phased=str(tiny_files.target),
    )
    scores, _ = array_protocol(copying, config, tmp_path / "imputed.vcf.gz")
    assert rows["weights"]["r2"] == {row.bin: pytest.approx(row.aggregate_r2, abs=1e-5) for row in scores.rows}

    runs = mlflow.MlflowClient(uri).search_runs(["1"], filter_string="tags.kind = 'ablation'")
    (parent,) = [found for found in runs if found.info.run_name == "ablation"]
    children = {found.info.run_name: found for found in runs if found is not parent}
    assert set(children) == set(rows) - {"v17"}
    for name, found in children.items():
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert found.info.status == "FINISHED"
        for bin_name, r2 in rows[name]["r2"].items():
            assert found.data.metrics[f"r2/{bin_name.rstrip('%')}"] == pytest.approx(r2, abs=1e-6)
    assert "variant" not in children["vote"].data.tags
    assert children["averaged"].data.tags["variant"] == "v19"


def test_ablation_first_hmm_row_is_li_stephens(tiny_files: TinyFiles, tmp_path: Path) -> None:
    """Against the algorithm in numpy over the whole panel, with the same rates."""
    ablation, states = importlib.import_module("ablation"), importlib.import_module("bench_states")
    bundle, data = load_bundle(tiny_files.fitted("v19")), tiny_files.folder
    (row,) = [row for row in ablation.ROWS if row.name == "li-stephens"]
    result, _ = ablation.run_row(row, bundle, ablation.targets_of(data), tmp_path / "imputed.vcf.gz", 1)
    typed, truth = data / "target_array_phased.vcf.gz", data / "target_truth.vcf.gz"
    expected = states.Copying(bundle.panels[0], states.file_targets(bundle.panels[0], typed, truth, None)).r2(None)
    assert result["r2"] == {name: pytest.approx(value, abs=2e-3) for name, value in expected.items()}


def test_ablation_without_bundle_is_refused(tmp_path: Path) -> None:
    done = run(["benchmarks/ablation.py", "--models", str(tmp_path), "--no-track"])
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}: no bundle v17, v18 or v19; run `dvc repro`")


def test_io_benchmark_measures_conversion_at_scale(tmp_path: Path) -> None:
    arguments = ["--scale", "40", "3000", "--folder", str(tmp_path)]
    converted = report_of("bench_io.py", arguments, tmp_path / "out.json")["convert"]
    assert (converted["cells"], converted["samples"], converted["sites"]) == (120_000, 40, 3000)
    assert converted["peak_mib"] > 20
    assert converted["panel_bytes"] > 3000 * 10  # alleles alone
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    "name",
    ["bench_variants", "bench_refresh", "bench_io", "bench_imputation", "bench_states", "bench_service", "ablation"],
)
def test_benchmark_help_has_examples(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    assert stopped.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out
