"""A grid: a study whose trials are the cells of a table, each of which is measured.

No value is sampled and no trial is pruned. Cells are child runs of one MLflow run. An interrupted grid resumes with the
cells that are left. Several workers may share a grid, and cells may be added to it later.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from vcfbert.artifacts import sha256_json
from vcfbert.config import Config
from vcfbert.errors import VcfbertError
from vcfbert.genotypes.encoding import Encoding
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import data_digest
from vcfbert.tracking.store import store_lock
from vcfbert.training.progress import FitProgress
from vcfbert.tuning.identity import Identity, code_digest
from vcfbert.tuning.storage import RUN_ID, first_number, patiently
from vcfbert.tuning.study import Settings, Worker, last_attempts
from vcfbert.tuning.trial import TRIAL_ERRORS, TrialFailed, TrialRecord

Cell = Mapping[str, Any]  # numbers and texts by name
# Measures a cell. It starts the cell's run through the record, which is a trainer's tracker, and may write to the
# folder. Returns plain values, among them the float ``VALUE``.
Measure = Callable[[Cell, TrialRecord, Path], dict[str, Any]]

VALUE = "value"
_FIGURES = "figures"  # user attribute: what the cell measured


class GridWorker(Worker):
    """Measures the cells of one grid, one at a time."""

    def __init__(
        self,
        panels: Sequence[Panel],
        encodings: Sequence[Encoding],
        config: Config,
        name: str,
        settings: Settings,
        *,
        cells: Sequence[Cell],
        measure: Measure,
        given: Mapping[str, Any],
        progress: FitProgress | None = None,
    ) -> None:
        """``cells``: mappings with the same names. ``given``: what else the figures depend on, beside the
        configuration, the data and the code. Grids whose cells take other values are other studies."""
        self.cells, self._measure, self._given = cells, measure, given
        self._choices = {key: sorted({cell[key] for cell in cells}, key=str) for key in cells[0]}
        super().__init__(panels, encodings, config, name, settings, progress=progress)

    def _identity(self) -> Identity:
        body = self.config.as_dict()
        sections = {name: body[name] for name in ("encode", "model", "retrieval", "masks", "train", "evaluate")}
        settings = sha256_json([sections, self._choices, self._given])
        return Identity(self.variant, data_digest(self._panels), code_digest(), settings)

    def queue(self, study: optuna.Study, trials: int, parent: str) -> None:
        """Queues the cells that the study does not have yet."""
        with store_lock(self.root, "studies"):
            study.set_user_attr(RUN_ID, parent)
            for cell in self.cells:
                study.enqueue_trial(dict(cell), skip_if_exists=True)

    def _objective(self, study: optuna.Study, folder: Path) -> Callable[[optuna.Trial], float]:
        parent = str(study.user_attrs[RUN_ID])

        def measured(trial: optuna.Trial) -> float:
            cell = {key: trial.suggest_categorical(key, choices) for key, choices in self._choices.items()}
            number = patiently(lambda: first_number(study.get_trials(deepcopy=False)[trial.number]))
            own = folder / str(number)
            shutil.rmtree(own, ignore_errors=True)  # left by an attempt that died; a cell is measured from its start
            shown = "  ".join(f"{key} {value}" for key, value in cell.items())
            self.progress.message(f"cell {number + 1} of {len(self.cells)}  {shown}")
            record = TrialRecord(trial, self.tracker(), VALUE, self.variant, parent)
            try:
                figures = self._measure(cell, record, own)
            except VcfbertError as error:
                if error.code not in TRIAL_ERRORS:
                    raise
                raise TrialFailed(error.what) from error
            finally:
                shutil.rmtree(own, ignore_errors=True)
            patiently(lambda: trial.set_user_attr(_FIGURES, figures))
            return float(figures[VALUE])

        return measured


def measured_cells(study: optuna.Study) -> list[dict[str, Any]]:
    """The finished cells with their figures, in the order of the grid."""
    done = [trial for trial in last_attempts(study) if trial.state == TrialState.COMPLETE]
    return [{**trial.params, **trial.user_attrs[_FIGURES]} for trial in sorted(done, key=first_number)]
