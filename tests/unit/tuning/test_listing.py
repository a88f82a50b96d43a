from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.command_line import vcfbert
from tests.helpers.studies import run
from vcfbert.errors import InputError
from vcfbert.tuning.listing import studies_in, trial_rows, trials_of
from vcfbert.tuning.storage import open_storage
from vcfbert.tuning.study import Worker

# Each test runs a whole study: seconds of work.
pytestmark = pytest.mark.integration


def test_studies_and_trials_are_listed(make: Callable[..., Worker], tmp_path: Path) -> None:
    study = run(make("v17"), 1, tmp_path / "out")
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    shown = vcfbert("tune", "show", "--storage", url, "--json").json
    assert [(row["study"], row["complete"], row["objective"]) for row in shown] == [(study.study_name, 1, "val/r2/all")]
    assert vcfbert("tune", "show", study.study_name, "--storage", url, "--json").json == trial_rows(study)
    assert study.study_name in vcfbert("tune", "show", "--storage", url).out
    storage = open_storage(url, heartbeat=1, retries=1)
    assert len(studies_in(storage)) == 1
    with pytest.raises(InputError, match="no study nowhere"):
        trials_of(storage, "nowhere")
