"""Studies and trials as table rows, for ``vcfbert tune show`` and ``trials.csv``."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from vcfbert.errors import InputError
from vcfbert.tuning.storage import earlier_attempts, first_number
from vcfbert.tuning.study import best_trial, last_attempts
from vcfbert.tuning.trial import COSTS, WORKER


def studies_in(storage: BaseStorage) -> list[dict[str, Any]]:
    """One row per study: trials by state, objective and best value."""
    rows = []
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        best = best_trial(study)
        states = [trial.state.name for trial in last_attempts(study)]
        counts = {state.lower(): states.count(state) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")}
        metric = (study.metric_names or [""])[0]
        rows.append({"study": name, **counts, "objective": metric, "best": None if best is None else best.value})
    return rows


def trials_of(storage: BaseStorage, name: str) -> list[dict[str, Any]]:
    """The rows of one study. Raises InputError 'study_missing'."""
    try:
        return trial_rows(optuna.load_study(study_name=name, storage=storage))
    except KeyError:
        hint = "`vcfbert tune show` lists all studies"
        raise InputError("study_missing", f"there is no study {name}", hint=hint) from None


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """One row per trial, with the values of its last attempt."""
    rows = []
    for trial in last_attempts(study):
        rows.append(
            {
                "trial": first_number(trial),
                "state": trial.state.name,
                "value": trial.value if trial.state == TrialState.COMPLETE else None,
                "feasible": all(excess <= 0 for excess in trial.constraints.values()),
                "taken_up": len(earlier_attempts(trial)),
                "reported_epochs": len(trial.intermediate_values),
                **{name: trial.user_attrs.get(name) for name in COSTS},
                WORKER: trial.user_attrs.get(WORKER),
                **trial.params,
            }
        )
    return sorted(rows, key=lambda row: int(row["trial"]))
