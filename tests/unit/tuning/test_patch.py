from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command_line import vcfbert
from tests.helpers.studies import run
from vcfbert.config import load, profile_text
from vcfbert.errors import InputError
from vcfbert.tuning.patch import apply_patch
from vcfbert.tuning.space import nested
from vcfbert.tuning.study import Worker, best_trial

# Each test runs a study or the command: seconds of work.
pytestmark = pytest.mark.integration


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(profile_text("cpu"))
    return path


def patch_of(tmp_path: Path, values: Mapping[str, Any]) -> Path:
    path = tmp_path / "patch.yaml"
    path.write_text(yaml.safe_dump(nested(values)))
    return path


def test_apply_patch_changes_only_its_values(tmp_path: Path, params: Path) -> None:
    before = params.read_text().splitlines()
    patch = patch_of(tmp_path, {"model.dims": 48, "model.heads": 3, "retrieval.k.v18": 32, "train.lr": 0.00366})
    outcome = vcfbert("tune", "apply", patch, "--params", params)
    assert outcome.code == 0, outcome.err
    assert "model.dims: 32 -> 48" in outcome.out
    after = params.read_text().splitlines()
    changed = [line.split("#")[0].rstrip() for line, old in zip(after, before, strict=True) if line != old]
    assert changed == ["  dims: 48", "  heads: 3", "  k: {v17: 2, v18: 32, v19: 400}", "  lr: 0.00366"]
    comments = [[line.partition("#")[2] for line in lines] for lines in (before, after)]
    assert comments[0] == comments[1]
    assert load(params).train.lr == 0.00366


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"model.heads": 5}, "params_invalid"),  # does not divide dims
        ({"model.width": 5}, "patch_invalid"),
        ({"train.lr": "fast"}, "params_invalid"),
    ],
)
def test_apply_patch_with_invalid_result_changes_nothing(
    tmp_path: Path, params: Path, values: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        apply_patch(patch_of(tmp_path, values), params)
    assert caught.value.code == code
    assert params.read_text() == profile_text("cpu")


def test_patch_of_a_study_can_be_applied(make: Callable[..., Worker], tmp_path: Path, params: Path) -> None:
    study = run(make("v17"), 2, tmp_path / "out")
    best = best_trial(study)
    assert best is not None
    apply_patch(tmp_path / "out" / "params.yaml", params)
    config = load(params)
    assert config.retrieval.k["v17"] == best.params["retrieval.k.v17"]
    assert config.model.dims == best.params["model.dims"]
