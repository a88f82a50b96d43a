from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks._grid import Cell, GridWorker, measured_cells
from tests.helpers.studies import children, small_config
from vcfbert.errors import VcfbertError
from vcfbert.exits import Interrupted
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.tuning.listing import trial_rows
from vcfbert.tuning.storage import RUN_ID
from vcfbert.tuning.study import Settings, run_study
from vcfbert.tuning.trial import TrialRecord

# Each test runs a whole study: seconds of work.
pytestmark = pytest.mark.integration

CELLS = [{"way": way, "k": k} for way in ("near", "random") for k in (2, 4)]


class Measured:
    """Records its cells; ``fails``: number of the call -> error to raise."""

    def __init__(self, fails: dict[int, BaseException] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.fails = fails or {}

    def __call__(self, cell: Cell, record: TrialRecord, folder: Path) -> dict[str, Any]:
        self.asked.append(dict(cell))
        if len(self.asked) in self.fails:
            raise self.fails[len(self.asked)]
        with record.start("cell", dict(cell), {}):
            record.log_metrics({"held_out/all": 0.5, "epoch_seconds": 2.0}, 0)
        return {"value": float(cell["k"]), "curve": [1.0, 2.0]}


@pytest.fixture
def grid(tiny_panel: Panel, root: Path) -> Callable[..., GridWorker]:
    def worker(measure: Measured, cells: list[Cell] | None = None, **given: Any) -> GridWorker:
        config = small_config()
        settings = Settings(f"sqlite:///{root / 'studies.db'}", root / "checkpoints", given.pop("track", False), root)
        encoding = encode(tiny_panel, config.encode)
        return GridWorker(
            [tiny_panel], [encoding], config, "grid", settings, cells=cells or CELLS, measure=measure, given=given
        )

    return worker


def run(worker: GridWorker) -> Any:
    study, _ = run_study(worker, len(worker.cells), lambda study: {})
    return study


def test_every_cell_is_measured_once(grid: Callable[..., GridWorker]) -> None:
    measure = Measured()
    study = run(grid(measure))
    assert measure.asked == CELLS
    assert measured_cells(study) == [{**cell, "value": cell["k"], "curve": [1.0, 2.0]} for cell in CELLS]
    assert [row["seconds"] for row in trial_rows(study)] == [2.0] * 4
    again = Measured()
    assert measured_cells(run(grid(again))) == measured_cells(study)
    assert again.asked == []


def test_grid_after_interrupt_measures_the_cells_left(grid: Callable[..., GridWorker]) -> None:
    with pytest.raises(Interrupted):
        run(grid(Measured({3: Interrupted(2)})))
    rest = Measured()
    study = run(grid(rest))
    assert sorted(rest.asked, key=str) == sorted(CELLS[2:], key=str)
    assert [(cell["way"], cell["k"]) for cell in measured_cells(study)] == [(c["way"], c["k"]) for c in CELLS]


def test_grid_accepts_new_cells_and_omits_failed_ones(grid: Callable[..., GridWorker]) -> None:
    three = [CELLS[0], CELLS[1], CELLS[2]]
    study = run(grid(Measured({2: VcfbertError("diverged", "the loss became nan")}), three))
    assert [cell["k"] for cell in measured_cells(study)] == [2, 2]
    more = Measured()
    study = run(grid(more))
    assert more.asked == [CELLS[3]]
    assert [row["state"] for row in trial_rows(study)] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_grid_of_other_values_or_conditions_is_another_study(grid: Callable[..., GridWorker]) -> None:
    names = {
        grid(Measured()).identity.name,
        grid(Measured(), CELLS[:3]).identity.name,  # of the same values: the same grid
        grid(Measured(), [*CELLS, {"way": "near", "k": 8}]).identity.name,
        grid(Measured(), density=0.02).identity.name,
    }
    assert len(names) == 3
    assert all(name.startswith("grid-") for name in names)


def test_cells_are_child_runs_of_the_grid(grid: Callable[..., GridWorker]) -> None:
    study = run(grid(Measured(), track=True))
    found = children(study.user_attrs[RUN_ID])
    assert [(run.data.params["way"], run.data.params["k"]) for run in found] == [(c["way"], str(c["k"])) for c in CELLS]
    assert all(run.data.tags["trial.state"] == "COMPLETE" for run in found)
    assert all(run.data.metrics["held_out/all"] == 0.5 for run in found)
