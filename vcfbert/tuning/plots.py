"""Reports a study as one self-contained HTML page of figures and a CSV table of trials."""

from __future__ import annotations

import csv
import html
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from vcfbert.artifacts import write_text
from vcfbert.config import Config
from vcfbert.errors import MissingExtraError
from vcfbert.tuning.listing import trial_rows
from vcfbert.tuning.patch import write_patch
from vcfbert.tuning.storage import first_number
from vcfbert.tuning.study import best_trial, last_attempts

_REFRESH = "retrieval.refresh_every"


def write_report(study: optuna.Study, config: Config, variant: str, folder: Path) -> dict[Path, str | None]:
    """Writes ``study.html``, ``trials.csv`` and, if a trial finished within the constraint, the patch ``params.yaml``.

    Returns the files, each with its folder among the artifacts of the study's run.
    """
    page, table, patch = folder / "study.html", folder / "trials.csv", folder / "params.yaml"
    write_text(page, study_page(study, config.tune.objective))
    write_text(table, trials_csv(study))
    files: dict[Path, str | None] = {page: "plots", table: None}
    best = best_trial(study)
    if best is None:
        patch.unlink(missing_ok=True)  # of an earlier study
    else:
        write_patch(patch, study, best, config, variant)
        files[patch] = None
    return files


def trials_csv(study: optuna.Study) -> str:
    """The rows of all trials as CSV."""
    rows = trial_rows(study)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def study_page(study: optuna.Study, objective: str) -> str:
    """HTML page with importance, history, slices, and refresh frequency against quality.

    A figure that needs more trials is replaced by a sentence. Raises MissingExtraError without plotly.
    """
    try:
        import plotly  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as error:
        hint = "pip install 'vcfbert[tune]'"
        raise MissingExtraError("plotly_missing", "plotly is not installed", hint=hint) from error
    from optuna import visualization

    figures: dict[str, Callable[[], Any]] = {
        "Importance of parameters": lambda: visualization.plot_param_importances(study, target_name=objective),
        "History": lambda: visualization.plot_optimization_history(study, target_name=objective),
        "Slices": lambda: visualization.plot_slice(study, target_name=objective),
    }
    if any(_REFRESH in trial.params for trial in study.get_trials(deepcopy=False)):
        figures["Refresh frequency against quality"] = lambda: refresh_figure(study, objective)
    parts, scripts = [], False
    for title, draw in figures.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="The number of trials is too small")
                figure = draw().to_html(full_html=False, include_plotlyjs=not scripts)
        except (
            ValueError,
            RuntimeError,
            UserWarning,
        ) as error:  # too few trials, or all of one value
            parts.append(f"<h2>{title}</h2>\n<p>No figure: {html.escape(str(error))}</p>")
            continue
        scripts = True
        parts.append(f"<h2>{title}</h2>\n{figure}")
    name = html.escape(study.study_name)
    style = "body{font-family:sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Study {name}</title>'
        f"<style>{style}</style></head>\n<body><h1>Study {name}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def refresh_figure(study: optuna.Study, objective: str) -> Any:
    """Each trial's value by the epochs between its refreshes, coloured by the seconds of its refreshes."""
    from plotly import graph_objects

    trials = [t for t in last_attempts(study) if t.value is not None and _REFRESH in t.params]
    figure = graph_objects.Figure()
    for state, symbol in ((TrialState.COMPLETE, "circle"), (TrialState.PRUNED, "x")):
        own = [trial for trial in trials if trial.state == state]
        figure.add_scatter(
            x=[trial.params[_REFRESH] for trial in own],
            y=[trial.value for trial in own],
            mode="markers",
            name=state.name.lower(),
            text=[_label(trial) for trial in own],
            marker={
                "symbol": symbol,
                "size": 11,
                "color": [trial.user_attrs.get("refresh_seconds", 0.0) for trial in own],
                "coloraxis": "coloraxis",
            },
        )
    figure.update_layout(
        xaxis={"title": "epochs between refreshes", "dtick": 1},
        yaxis={"title": objective},
        coloraxis={"colorbar": {"title": "seconds of refreshes"}, "colorscale": "Viridis"},
        legend={"orientation": "h"},
    )
    return figure


def _label(trial: FrozenTrial) -> str:
    seconds = trial.user_attrs.get("seconds", 0.0)
    return f"trial {first_number(trial)}, {seconds:.0f} s<br>{html.escape(json.dumps(trial.params))}"
