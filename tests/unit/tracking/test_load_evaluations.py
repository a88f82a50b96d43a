from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.helpers.command_line import vcfbert
from tests.helpers.evaluated import r2_sums_of
from vcfbert.errors import InputError
from vcfbert.tracking.load_evaluations import from_file, from_run, with_distinct_names
from vcfbert.tracking.mlflow_tracker import MlflowTracker
from vcfbert.tracking.promotion import Candidate, publish
from vcfbert.tracking.run_evaluations import R2_SUMS, REPORT, keep_evaluation
from vcfbert.tracking.store import connect

# Tests record runs in MLflow: seconds of work.
pytestmark = pytest.mark.integration


def report(variant: str, r2: float) -> dict[str, Any]:
    rows = [{"bin": "0-0.5%", "aggregate_r2": r2 / 2}, {"bin": "all", "aggregate_r2": r2}]
    return {"variant": variant, "array": {"rows": rows}, "training": {"seconds": 100 * r2, "refreshes": 2}}


def write(folder: Path, variant: str, r2: float, noise: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{variant}.json"
    path.write_text(json.dumps(report(variant, r2)))
    r2_sums_of(noise).write(path.with_suffix(".npz"))
    return path


def run(root: Path, variant: str, *, r2: float | None, noise: float = 0.4) -> str:
    """A training run, evaluated where ``r2`` is given; its id."""
    with MlflowTracker(root, system_metrics=False).start(variant, {}, {"variant": variant}) as run_id:
        pass
    if r2 is not None:
        path = write(root / run_id, variant, r2, noise)
        assert keep_evaluation(run_id, {REPORT: path, R2_SUMS: path.with_suffix(".npz")}, root)
    return run_id


def test_from_file_reads_r2_sums_beside_the_report(tmp_path: Path) -> None:
    path = write(tmp_path, "v18", 0.9, 0.3)
    found = from_file(path)
    assert found.report == report("v18", 0.9)
    assert found.r2_sums is not None
    assert found.r2_sums.pairs_with(r2_sums_of(0.1))
    path.with_suffix(".npz").unlink()
    assert from_file(path).r2_sums is None


@pytest.mark.parametrize(("text", "code"), [(None, "file_not_found"), ("{", "json_invalid"), ("[]", "json_invalid")])
def test_file_that_is_no_report_is_refused(tmp_path: Path, text: str | None, code: str) -> None:
    if text is not None:
        (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError) as caught:
        from_file(tmp_path / "r.json")
    assert caught.value.code == code


def test_from_run_finds_id_name_and_registered_version(root: Path) -> None:
    first, second = run(root, "v18", r2=0.8), run(root, "v18", r2=0.9)
    run(root, "v18", r2=None)  # the newest of the name was not evaluated
    assert from_run(first, root).report == report("v18", 0.8)
    assert from_run("v18", root).origin == second[:8]
    bundle = root / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    promotion = publish(
        {"v18": Candidate(bundle, {"r2": 0.9})}, name="vcfbert", alias="champion", metric="r2", minimum=0.5, root=root
    )
    path = write(root / "again", "v18", 0.7, 0.4)
    keep_evaluation(promotion.version.run_id, {REPORT: path}, root)
    found = from_run("models:/vcfbert@champion", root)
    assert (found.report, found.r2_sums) == (report("v18", 0.7), None)


@pytest.mark.parametrize(
    ("reference", "code"),
    [("v17", "run_not_evaluated"), ("v16", "run_not_found"), ("0" * 32, "run_not_found"), ("it's", "run_not_found")],
)
def test_from_run_names_missing_or_unevaluated_run(root: Path, reference: str, code: str) -> None:
    run(root, "v17", r2=None)
    with pytest.raises(InputError, match=reference) as caught:
        from_run(reference, root)
    assert caught.value.code == code


def test_keep_evaluation_of_run_in_another_store_only_warns(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(root, "v18", 0.9, 0.3)
    assert not keep_evaluation("0" * 32, {REPORT: path}, root)
    assert "is not stored there" in caplog.text


def test_evaluations_of_one_variant_get_distinct_names(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, variant, 0.9, 0.3) for name, variant in (("a", "v18"), ("b", "v18"), ("b", "v19"))]
    names = [one.report["variant"] for one in with_distinct_names([from_file(path) for path in paths])]
    assert names == [f"v18 {tmp_path / 'a/v18'}", f"v18 {tmp_path / 'b/v18'}", "v19"]


def test_compare_of_runs_is_recorded_as_a_run(root: Path) -> None:
    champion, candidate = run(root, "v18", r2=0.8, noise=0.5), run(root, "v18", r2=0.9, noise=0.2)
    compared = vcfbert("compare", "--runs", f"{champion},{candidate}", "--json")
    assert compared.code == 0, compared.err
    differences = compared.json["differences"]
    assert differences["baseline"] == f"v18 {champion[:8]}"
    rows = differences["methods"][f"v18 {candidate[:8]}"]
    assert {row["bin"]: row["verdict"] for row in rows} == {"0-0.5%": "better", "5-50%": "better", "all": "better"}
    recorded = mlflow.search_runs(
        experiment_names=["vcfbert"], filter_string="tags.kind = 'compare'", output_format="list"
    )
    assert [one.data.params["compared"] for one in recorded] == [f"{champion}, {candidate}"]  # type: ignore[union-attr]
    files = mlflow.MlflowClient().list_artifacts(recorded[0].info.run_id)  # type: ignore[union-attr]
    assert {"compare.html", "compare.json", "compare.png"} <= {item.path for item in files}


def test_compare_of_files_is_recorded_only_on_request(root: Path) -> None:
    paths = [write(root / "reports", variant, 0.9, noise) for variant, noise in (("v18", 0.3), ("v19", 0.31))]
    compared = vcfbert("compare", *paths, "--out", root / "out")
    assert compared.code == 0, compared.err
    assert "Differences of r² from V18" in compared.out
    assert (root / "out" / "compare.html").is_file()
    assert connect(root).search_runs(search_all_experiments=True, output_format="list") == []
