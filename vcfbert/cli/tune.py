"""``vcfbert tune``: studies of parameters. Parses arguments and calls ``vcfbert.tuning``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vcfbert.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from vcfbert.tuning.study import Worker

tune_app = typer.Typer()
messages = Console(stderr=True)

REPORTS = Path("reports/tune")
CHECKPOINTS = Path(".checkpoints/tune")

Variant = Annotated[str, typer.Option(help="v17, v18 or v19.")]
Params = Annotated[Path, typer.Option(help="What trials start from, and the choices, in its section tune.")]
PanelOption = Annotated[
    Path | None,
    typer.Option(help="Panel: VCF, VCF.gz, BCF or a panel store. Without: prepare.panel."),
]
StorageOption = Annotated[
    str | None,
    typer.Option(help="Database, e.g. postgresql://USER@HOST/DB. Without: VCFBERT_STUDIES, else studies.db."),
]
CheckpointsOption = Annotated[
    Path, typer.Option(help="Trials' checkpoints; on a shared disk, workers go on with those of dead ones.")
]
Track = Annotated[bool, typer.Option(help="Record the runs in MLflow.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text.")]


@tune_app.callback(invoke_without_command=True)
def tune(
    context: typer.Context,
    variant: Variant = "v18",
    trials: Annotated[int | None, typer.Option(help="Trials of the study in all. Without: tune.trials.", min=1)] = None,
    params: Params = Path("params.yaml"),
    panel: PanelOption = None,
    storage: StorageOption = None,
    checkpoints: CheckpointsOption = CHECKPOINTS,
    out: Annotated[Path | None, typer.Option(help="Folder of the report. Without: reports/tune/VARIANT.")] = None,
    track: Track = True,
    as_json: JsonFlag = False,
) -> None:
    """Search parameters, and write the best as a patch of params.yaml.

    Interrupted, or asked for more trials, it goes on where it was when called again. Other processes may help with
    `vcfbert tune worker`, from other machines too if the storage is PostgreSQL.

    **Examples**

    vcfbert tune --variant v18 --trials 50

    vcfbert tune --variant v19 --trials 200 --storage postgresql://tuner@db/studies
    """
    if context.invoked_subcommand is not None:
        return
    with _worker(variant, params, panel, storage, checkpoints, track) as worker:
        from vcfbert.tuning.plots import write_report
        from vcfbert.tuning.study import best_trial, run_study, summary

        folder = out or REPORTS / variant
        study, files = run_study(
            worker,
            trials or worker.config.tune.trials,
            lambda study: write_report(study, worker.config, variant, folder),
        )
        patch, best = folder / "params.yaml", best_trial(study)
        if as_json:
            found = None if best is None else best.params
            paths = [str(path) for path in files]
            _print_json({"study": study.study_name, "best": found, "files": paths, **summary(study)})
            return
        figures = summary(study)
        ends = ", ".join(f"{figures[f'trials/{end}']:.0f} {end}" for end in ("complete", "pruned", "fail"))
        _say(f"study {study.study_name}: {ends}, {figures['cost/seconds']:.0f} s; {folder / 'study.html'}")
        if best is None:
            _say("no trial finished within the constraint: there is no patch")
        else:
            _say(f"best {worker.config.tune.objective} {best.value:.4f}: {patch}, for `vcfbert tune apply {patch}`")


@tune_app.command("worker")
def tune_worker(
    variant: Variant = "v18",
    params: Params = Path("params.yaml"),
    panel: PanelOption = None,
    storage: StorageOption = None,
    checkpoints: CheckpointsOption = CHECKPOINTS,
    track: Track = True,
) -> None:
    """Help with a study that `vcfbert tune` has started, until none of its trials is left.

    Panel, params.yaml and code must be the study's.

    **Example**

    VCFBERT_STUDIES=postgresql://tuner@db/studies vcfbert tune worker --variant v18
    """
    with _worker(variant, params, panel, storage, checkpoints, track) as worker:
        from vcfbert.tuning.study import run_worker

        study, done = run_worker(worker)
        _say(f"study {study.study_name}: {done} trials ran here")


@tune_app.command("apply")
def tune_apply(
    patch: Annotated[Path, typer.Argument(help="The patch that a study wrote.")],
    params: Annotated[Path, typer.Option(help="The file to change; its comments stay.")] = Path("params.yaml"),
) -> None:
    """Put a study's best parameters into params.yaml.

    `dvc repro` then trains with them, and publishes through the same gate as ever.

    **Example**

    vcfbert tune apply reports/tune/v18/params.yaml && dvc repro
    """
    _needs_optuna()
    from vcfbert.tuning.patch import apply_patch

    for name, (old, new) in apply_patch(patch, params).items():
        _say(f"{name}: {old} -> {new}")


@tune_app.command("show")
def tune_show(
    study: Annotated[str | None, typer.Argument(help="A study's name. Without: all of them.")] = None,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List studies, or a study's trials. Example: vcfbert tune show --storage sqlite:///studies.db"""
    _needs_optuna()
    from vcfbert.config import TuneConfig
    from vcfbert.tracking.store import study_storage
    from vcfbert.tuning.listing import studies_in, trials_of
    from vcfbert.tuning.storage import open_storage

    default = TuneConfig()
    found = open_storage(storage or study_storage(), heartbeat=default.heartbeat, retries=default.retries)
    rows = studies_in(found) if study is None else trials_of(found, study)
    if as_json:
        _print_json(rows)
    else:
        _print_table(rows)


@contextmanager
def _worker(
    variant: str, params: Path, panel_path: Path | None, storage: str | None, checkpoints: Path, track: bool
) -> Iterator[Worker]:
    """A worker with its panel read and encoded, in a folder that lives as long as it does."""
    _needs_optuna()
    from vcfbert.config import load
    from vcfbert.constants import VARIANTS
    from vcfbert.genotypes.conversion import panels_of
    from vcfbert.genotypes.encoding import encode
    from vcfbert.tracking.store import study_storage
    from vcfbert.training.progress import ConsoleProgress
    from vcfbert.tuning.study import Settings, Worker

    if variant not in VARIANTS:
        raise InputError("variant_invalid", f"no such variant: {variant}", hint=f"use one of {', '.join(VARIANTS)}")
    config = load(params)
    prepare = config.prepare if panel_path is None else replace(config.prepare, panel=str(panel_path))
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder, ConsoleProgress(messages) as progress:
        panels = panels_of(prepare, Path(folder) / "panel")
        encodings = [encode(panel, config.encode) for panel in panels]
        settings = Settings(storage or study_storage(), checkpoints, track)
        yield Worker(panels, encodings, config, variant, settings, progress=progress)


def _needs_optuna() -> None:
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna_missing", "Optuna is not installed", hint="pip install 'vcfbert[tune]'")


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_shown(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        _say("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return format(value, ".4g")
    return "" if value is None else str(value)


def _print_json(value: Any) -> None:
    _say(json.dumps(value, indent=1))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
