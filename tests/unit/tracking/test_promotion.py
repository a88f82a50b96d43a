from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from tests.helpers.command_line import vcfbert
from tests.helpers.evaluated import r2_sums_of
from vcfbert.config import profile_text
from vcfbert.errors import InputError
from vcfbert.metrics.r2_sums import R2Sums
from vcfbert.tracking.promotion import Candidate, promote, publish, roll_back
from vcfbert.tracking.registry import champion, list_versions
from vcfbert.tracking.run_evaluations import kept_r2_sums

MODEL = {"name": "vcfbert", "alias": "champion"}
GATE = {**MODEL, "metric": "r2", "minimum": 0.5}

# Each test fills an MLflow database of its own: seconds of work.
pytestmark = pytest.mark.integration


def add(root: Path, r2: float, r2_sums: R2Sums | None = None, **options: Any) -> int:
    """Publishes another bundle; its version."""
    folder = root / f"bundle-{r2}"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"r2": r2}))
    path = None
    if r2_sums is not None:
        path = root / f"{r2}.npz"
        r2_sums.write(path)
    return publish(
        {"v18": Candidate(folder, {"r2": r2}, r2_sums=path)}, root=root, **{**GATE, **options}
    ).version.number


def holder(root: Path) -> int:
    now = champion("vcfbert", "champion", root=root)
    assert now is not None
    return now.number


def tags(version: int) -> dict[str, str]:
    return dict(mlflow.MlflowClient().get_model_version("vcfbert", str(version)).tags)


def test_publish_worse_in_a_bin_needs_force_and_tags_the_reason(root: Path) -> None:
    add(root, 0.8, r2_sums_of(0.4))
    trading = r2_sums_of(0.05, rare_noise=0.8)
    with pytest.raises(InputError, match=r"outside the interval of r2: 0-0\.5%"):
        add(root, 0.9, trading)
    assert len(mlflow.MlflowClient().search_model_versions("name = 'vcfbert'")) == 1
    assert add(root, 0.91, trading, force="common variants alone count") == 2
    assert tags(2)["forced"] == "common variants alone count"
    assert "although v18 is worse than champion version 1" in tags(2)["why"]
    assert tags(2)["differences"].startswith("from version 1 (v18): 0-0.5% -0.")
    run = mlflow.MlflowClient().get_model_version("vcfbert", "2").run_id
    table = mlflow.artifacts.load_dict(f"runs:/{run}/evaluation/from-version-1.json")
    assert [(row["bin"], row["verdict"]) for row in table["rows"]][:2] == [("0-0.5%", "worse"), ("5-50%", "better")]


def test_publish_stores_r2_sums_with_the_run(root: Path) -> None:
    add(root, 0.8)
    run = mlflow.MlflowClient().get_model_version("vcfbert", "1").run_id
    assert kept_r2_sums(run, root) is None  # of before there were any
    r2_sums_of(0.4).write(root / "m.npz")
    again = publish({"v18": Candidate(root / "bundle-0.8", {"r2": 0.8}, r2_sums=root / "m.npz")}, root=root, **GATE)
    assert not again.changed
    kept = kept_r2_sums(run, root)
    assert kept is not None
    assert kept.pairs_with(r2_sums_of(0.1))


def test_list_versions_gives_aliases_figures_and_reasons_newest_first(root: Path) -> None:
    for r2 in (0.7, 0.8):
        add(root, r2)
    (newest, aliases), (first, none) = list_versions("vcfbert", root=root)
    assert (newest.number, aliases, newest.variant, newest.metric, newest.value) == (
        2, ("champion",), "v18", "r2", 0.8,
    )  # fmt: skip
    assert (first.number, none) == (1, ())
    assert first.why.endswith("first of this alias")
    assert first.since["champion"]
    with pytest.raises(InputError) as caught:
        list_versions("nobody", root=root)
    assert caught.value.code == "model_not_found"


def test_promote_refused_by_gate_needs_force(root: Path) -> None:
    add(root, 0.8, r2_sums_of(0.4))
    add(root, 0.9, r2_sums_of(0.2))
    with pytest.raises(InputError) as caught:
        promote(number=1, minimum=0.5, root=root, **MODEL)
    assert caught.value.code == "gate_refused"
    assert holder(root) == 2
    done = promote(number=1, minimum=0.5, force="the other crashes", root=root, **MODEL)
    assert (done.version.number, done.changed, holder(root)) == (1, True, 1)
    assert tags(1)["forced"] == "the other crashes"
    back = promote(number=2, minimum=0.5, root=root, **MODEL)
    assert "not below the 0.8000 of version 1" in back.version.why
    assert "forced" not in tags(2)
    promote(number=1, minimum=0.5, force="again", root=root, **MODEL)
    with pytest.raises(InputError, match=r"publishing is 0\.95"):
        promote(number=2, minimum=0.95, root=root, **MODEL)
    assert not promote(number=1, minimum=0.95, root=root, **MODEL).changed  # has it already
    with pytest.raises(InputError) as caught:
        promote(number=9, minimum=0.5, root=root, **MODEL)
    assert caught.value.code == "model_not_found"


def test_promote_forced_version_that_passes_later_drops_forced_tag(root: Path) -> None:
    add(root, 0.8)
    assert add(root, 0.7, force="smaller") == 2
    mlflow.MlflowClient().delete_registered_model_alias("vcfbert", "champion")
    promote(number=2, minimum=0.5, root=root, **MODEL)
    assert "forced" not in tags(2)


def test_roll_back_repeated_goes_one_version_back_each_time(root: Path) -> None:
    for r2 in (0.7, 0.8, 0.9):
        add(root, r2)
    left, back = roll_back(**MODEL, reason="wrong dosages", root=root)
    assert (left.number, back.number, holder(root)) == (3, 2, 2)
    assert tags(3)["champion_rolled_back"] == "wrong dosages"
    assert back.why == "rolled back from version 3 (v18): wrong dosages"
    assert roll_back(**MODEL, reason="this too", root=root)[1].number == 1
    with pytest.raises(InputError) as caught:
        roll_back(**MODEL, reason="and this", root=root)
    assert caught.value.code == "nothing_before"
    assert holder(root) == 1
    promote(number=3, minimum=0.5, root=root, **MODEL)
    assert roll_back(**MODEL, reason="still", root=root)[1].number == 1  # not to 2, which was left before


def test_roll_back_skips_deleted_versions(root: Path) -> None:
    for r2 in (0.7, 0.8, 0.9):
        add(root, r2)
    mlflow.MlflowClient().delete_model_version("vcfbert", "2")
    assert roll_back(**MODEL, reason="bad", root=root)[1].number == 1


def test_roll_back_after_alias_moved_in_mlflow_finds_previous_version(root: Path) -> None:
    for r2 in (0.7, 0.8):
        add(root, r2)
    mlflow.MlflowClient().set_registered_model_alias("vcfbert", "champion", "1")  # as on MLflow's page
    assert roll_back(**MODEL, reason="by mistake", root=root)[1].number == 2


@pytest.mark.parametrize("text", [None, "no list", '[{"number": 1}]'])
def test_history_without_its_tag_comes_from_version_tags(root: Path, text: str | None) -> None:
    """Of versions that were published before there was one."""
    for r2 in (0.7, 0.8):
        add(root, r2)
    client = mlflow.MlflowClient()
    for version, since in ((1, "2026-01-01T00:00:00+00:00"), (2, "2026-02-01T00:00:00+00:00")):
        client.set_model_version_tag("vcfbert", str(version), "champion_since", since)
    if text is None:
        client.delete_registered_model_tag("vcfbert", "champion_history")
    else:
        client.set_registered_model_tag("vcfbert", "champion_history", text)
    assert roll_back(**MODEL, reason="bad", root=root)[1].number == 1


def test_alias_history_longer_than_a_tag_drops_its_oldest_holders(root: Path) -> None:
    for r2 in (0.7, 0.8):
        add(root, r2)
    for turn in range(20):
        promote(number=1 + turn % 2, minimum=0.5, force="x" * 250, root=root, **MODEL)
    text = mlflow.MlflowClient().get_registered_model("vcfbert").tags["champion_history"]
    assert len(text) < 5000
    history = json.loads(text)
    assert 2 < len(history) < 22
    assert history[-1]["version"] == 2


# The command line


def test_registry_commands_list_promote_and_roll_back(root: Path) -> None:
    for r2 in (0.7, 0.8):
        add(root, r2)
    listed = vcfbert("registry", "list")
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[0].startswith("2 @champion  v18, r2 0.8000, 20")
    assert [row["version"] for row in vcfbert("registry", "list", "--json").json] == [2, 1]
    refused = vcfbert("registry", "promote", "1")
    assert (refused.code, refused.out) == (2, "")
    assert "[gate_refused]" in refused.err
    forced = vcfbert("registry", "promote", "1", "--force", "smaller", "--json")
    assert (forced.json["version"], forced.json["changed"]) == (1, True)
    assert "forced (smaller)" in vcfbert("registry", "list").out
    back = vcfbert("registry", "rollback", "--reason", "too small")
    assert back.out == "models:/vcfbert@champion is version 2 (v18) again, no longer version 1 (v18)\n"
    assert vcfbert("registry", "rollback", "--reason", " ").code == 2


def test_registry_commands_use_params_of_the_project(root: Path) -> None:
    add(root, 0.7, name="other", alias="best")
    params = yaml.safe_load(profile_text("cpu"))
    params["publish"] |= {"name": "other", "alias": "best", "minimum": 0.9}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    assert "1 @best" in vcfbert("registry", "list").out
    mlflow.MlflowClient().delete_registered_model_alias("other", "best")
    assert "publishing is 0.9" in vcfbert("registry", "promote", "1").err
