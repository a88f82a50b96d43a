from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from vcfbert.constants import VARIANT_COLOURS, VARIANTS
from vcfbert.reports import plots
from vcfbert.tracking.mlflow_tracker import MlflowTracker

# Tests record runs in MLflow: seconds of work.
pytestmark = pytest.mark.integration


@pytest.mark.parametrize("variant", VARIANTS)
def test_colour_of_variant_in_mlflow_is_that_in_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path, variant: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    with MlflowTracker(tmp_path, system_metrics=False).start(variant, {}, {"variant": variant}) as run_id:
        pass
    (axes,) = plots.comparison({variant: {"5-50%": 0.9}}, {}).axes
    drawn = axes.lines[0].get_color()
    assert mlflow.get_run(run_id).data.tags["mlflow.runColor"] == drawn == VARIANT_COLOURS[variant]


def test_colours_of_variants_differ() -> None:
    assert len(set(VARIANT_COLOURS.values())) == len(VARIANTS)
