"""``vcfbert tune``: searches parameters in studies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcfbert.cli.console import ConsoleProgress, JsonFlag, print_json, print_table, say
from vcfbert.cli.options import check_variant
from vcfbert.errors import MissingExtraError

if TYPE_CHECKING:
    from vcfbert.tuning.study import Worker

tune_app = typer.Typer()

REPORTS = Path("reports/tune")
CHECKPOINTS = Path(".checkpoints/tune")

Variant = Annotated[str, typer.Option(help="v17, v18 or v19.")]
Params = Annotated[Path, typer.Option(help="Parameters that trials start from. Section tune defines the search space.")]
PanelOption = Annotated[
    Path | None,
    typer.Option(help="Panel: VCF, VCF.gz, BCF or a panel store. Default: prepare.panel of the parameters."),
]
StorageOption = Annotated[
    str | None,
    typer.Option(help="Database, such as postgresql://USER@HOST/DB. Default: VCFBERT_STUDIES, or else studies.db."),
]
CheckpointsOption = Annotated[
    Path,
    typer.Option(help="Folder of checkpoints. If workers share it, one resumes the trial of another that died."),
]
Track = Annotated[bool, typer.Option(help="Record the runs in MLflow.")]


@tune_app.callback(invoke_without_command=True)
def tune(
    context: typer.Context,
    variant: Variant = "v18",
    trials: Annotated[int | None, typer.Option(help="Total trials of the study. Default: tune.trials.", min=1)] = None,
    params: Params = Path("params.yaml"),
    panel: PanelOption = None,
    storage: StorageOption = None,
    checkpoints: CheckpointsOption = CHECKPOINTS,
    out: Annotated[Path | None, typer.Option(help="Folder of the report. Default: reports/tune/VARIANT.")] = None,
    track: Track = True,
    as_json: JsonFlag = False,
) -> None:
    """Search parameters and write the best ones as a patch of params.yaml.

    Repeat the command to resume an interrupted study or to add trials. `vcfbert tune worker` adds worker processes to
    the study; on other machines it requires PostgreSQL as storage.

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
            print_json({"study": study.study_name, "best": found, "files": paths, **summary(study)})
            return
        figures = summary(study)
        ends = ", ".join(f"{figures[f'trials/{end}']:.0f} {end}" for end in ("complete", "pruned", "fail"))
        say(f"study {study.study_name}: {ends}, {figures['cost/seconds']:.0f} s; {folder / 'study.html'}")
        if best is None:
            say("no patch: no trial finished within the constraint")
        else:
            say(f"best {worker.config.tune.objective} {best.value:.4f}: apply it with `vcfbert tune apply {patch}`")


@tune_app.command("worker")
def tune_worker(
    variant: Variant = "v18",
    params: Params = Path("params.yaml"),
    panel: PanelOption = None,
    storage: StorageOption = None,
    checkpoints: CheckpointsOption = CHECKPOINTS,
    track: Track = True,
) -> None:
    """Run trials of a study that `vcfbert tune` started, until none is left.

    The panel, params.yaml and the code must be the same as the study's.

    **Example**

    VCFBERT_STUDIES=postgresql://tuner@db/studies vcfbert tune worker --variant v18
    """
    with _worker(variant, params, panel, storage, checkpoints, track) as worker:
        from vcfbert.tuning.study import run_worker

        study, done = run_worker(worker)
        say(f"study {study.study_name}: {done} trials run by this worker")


@tune_app.command("apply")
def tune_apply(
    patch: Annotated[Path, typer.Argument(help="Patch written by a study.")],
    params: Annotated[Path, typer.Option(help="File to change. Its comments are kept.")] = Path("params.yaml"),
) -> None:
    """Put a study's best parameters into params.yaml.

    `dvc repro` then trains with them and publishes through the promotion gate.

    **Example**

    vcfbert tune apply reports/tune/v18/params.yaml && dvc repro
    """
    _require_optuna()
    from vcfbert.tuning.patch import apply_patch

    for name, (old, new) in apply_patch(patch, params).items():
        say(f"{name}: {old} -> {new}")


@tune_app.command("show")
def tune_show(
    study: Annotated[str | None, typer.Argument(help="Study. Default: list all studies.")] = None,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the studies, or the trials of one.

    **Example**

    vcfbert tune show --storage sqlite:///studies.db
    """
    _require_optuna()
    from vcfbert.config import TuneConfig
    from vcfbert.tracking.store import study_storage
    from vcfbert.tuning.listing import studies_in, trials_of
    from vcfbert.tuning.storage import open_storage

    default = TuneConfig()
    found = open_storage(storage or study_storage(), heartbeat=default.heartbeat, retries=default.retries)
    rows = studies_in(found) if study is None else trials_of(found, study)
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@contextmanager
def _worker(
    variant: str, params: Path, panel_path: Path | None, storage: str | None, checkpoints: Path, track: bool
) -> Iterator[Worker]:
    """A worker, its panel read and encoded. The panel store lies in a temporary folder until the worker is done."""
    _require_optuna()
    from vcfbert.config import load
    from vcfbert.copying.panel_filler import PanelFiller
    from vcfbert.genotypes.conversion import panels_of
    from vcfbert.genotypes.encoding import encode
    from vcfbert.tracking.store import study_storage
    from vcfbert.tuning.study import Settings, Worker

    check_variant(variant)
    config = load(params)
    prepare = config.prepare if panel_path is None else replace(config.prepare, panel=str(panel_path))
    with tempfile.TemporaryDirectory(prefix="vcfbert-") as folder, ConsoleProgress() as progress:
        panels = panels_of(prepare, Path(folder) / "panel", PanelFiller(prepare.max_missing))
        encodings = [encode(panel, config.encode) for panel in panels]
        settings = Settings(storage or study_storage(), checkpoints, track)
        yield Worker(panels, encodings, config, variant, settings, progress=progress)


def _require_optuna() -> None:
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna_missing", "Optuna is not installed", hint="pip install 'vcfbert[tune]'")
