from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from tests.helpers.command_line import vcfbert
from tests.helpers.tiny import MemoryTracker, random_panel, tiny_config
from vcfbert.config import Config, TuneConfig, load, profile_text
from vcfbert.errors import InputError, VcfbertError
from vcfbert.exits import Interrupted
from vcfbert.genotypes.encoding import encode
from vcfbert.genotypes.panel import Panel
from vcfbert.tracking import NullTracker
from vcfbert.training.loop import Trainer
from vcfbert.training.progress import SilentProgress
from vcfbert.tuning import storage as storage_module
from vcfbert.tuning import study as study_module
from vcfbert.tuning.identity import identity
from vcfbert.tuning.listing import studies_in, trial_rows, trials_of
from vcfbert.tuning.patch import apply_patch
from vcfbert.tuning.plots import write_report
from vcfbert.tuning.space import nested, searched, suggest, trial_config
from vcfbert.tuning.storage import first_number, open_storage, patiently, shown_url
from vcfbert.tuning.study import SeededByTrial, Settings, Worker, best_trial, run_study, run_worker, summary
from vcfbert.tuning.trial import TrialRecord

SMALL: dict[str, Any] = {
    "trials": 2,
    "startup": 1,
    "objective": "val/r2/all",
    "dims": (8, 16),
    "layers": (1,),
    "head_width": (8,),
    "warmup_steps": (2, 4),
    "k": {"v17": (1, 2), "v18": (4, 8), "v19": (8, 12)},
    "refresh_every": (1, 2),
    "heartbeat": 1,
}


def small_config(**tune: Any) -> Config:
    return tiny_config({"tune": {**SMALL, **tune}, "train": {"samples_per_epoch": 8}})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A project's folder with an empty MLflow store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    return tmp_path


@pytest.fixture
def make(tiny_panel: Panel, tmp_path: Path) -> Callable[..., Worker]:
    def worker(variant: str = "v17", *, track: bool = False, progress: Any = None, **tune: Any) -> Worker:
        config = small_config(**tune)
        settings = Settings(f"sqlite:///{tmp_path / 'studies.db'}", tmp_path / "checkpoints", track, tmp_path)
        return Worker(tiny_panel, encode(tiny_panel, config.encode), config, variant, settings, progress=progress)

    return worker


def run(worker: Worker, trials: int, out: Path) -> optuna.Study:
    study, _ = run_study(worker, trials, lambda study: write_report(study, worker.config, worker.variant, out))
    return study


def queued(worker: Worker, trials: int) -> optuna.Study:
    study = worker.create()
    worker.queue(study, trials, "")
    return study


def children(parent: str) -> list[Any]:
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.mlflow.parentRunId = '{parent}'",
        output_format="list",
    )
    return sorted(found, key=lambda run: int(run.data.tags["trial.number"]))


# What is searched.


@pytest.mark.parametrize("variant", ["v17", "v18", "v19"])
@pytest.mark.parametrize("name", ["cpu", "gpu", "original"])
def test_every_suggestion_of_every_profile_is_a_valid_configuration(variant: str, name: str) -> None:
    config = profile_config(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        values = suggest(study.ask(), variant, config.tune)
        tried = trial_config(config, values)
        assert tuple(values) == searched(variant, config.tune)
        assert tried.model.dims % tried.model.heads == 0
        assert tried.retrieval.k[variant] in config.tune.k[variant]
        assert ("retrieval.refresh_every" in values) == (variant == "v18")
        assert ("train.copy_lr" in values) == (variant == "v19")


def profile_config(name: str) -> Config:
    from vcfbert.config import profile

    return profile(name)


def test_the_original_profile_searches_the_sizes_that_were_asked_for() -> None:
    tune = profile_config("original").tune
    assert (tune.dims, tune.layers) == ((128, 192, 256), (8, 10, 12))


def test_a_trial_may_have_fewer_epochs_than_a_training() -> None:
    assert trial_config(small_config(epochs=1), {}).train.epochs == 1
    assert trial_config(small_config(epochs=0), {}).train.epochs == small_config().train.epochs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head_width", (3,)),
        ("dims", ()),
        ("lr", (1e-2, 1e-3)),
        ("trials", 0),
        ("k", {"v17": (1,)}),
        ("constraint", "memory_mb"),  # without a limit
        ("refresh_every", ()),
    ],
)
def test_bounds_of_the_section(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"tune\."):
        dataclasses.replace(TuneConfig(), **{name: value})


# Which study a trial belongs to.


def test_a_study_is_of_one_variant_data_code_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, other = random_panel(8, 40, seed=1), random_panel(8, 40, seed=2)
    config = small_config()
    names = {
        identity(config, "v18", panel).name,
        identity(config, "v17", panel).name,
        identity(config, "v18", other).name,
        identity(config, "v18", dataclasses.replace(panel, cm=panel.cm * 2)).name,
        identity(small_config(epochs=1), "v18", panel).name,
        identity(small_config(dims=(8,)), "v18", panel).name,
    }
    monkeypatch.setattr("vcfbert.tuning.identity.code_digest", lambda: "another")
    names.add(identity(config, "v18", panel).name)
    assert len(names) == 7


def test_more_trials_or_an_applied_patch_do_not_make_another_study() -> None:
    panel = random_panel(8, 40, seed=1)
    config = small_config()
    applied = trial_config(config, {"model.dims": 16, "model.heads": 2, "train.lr": 1e-3, "retrieval.k.v18": 4})
    more = dataclasses.replace(config, tune=dataclasses.replace(config.tune, trials=99))
    assert identity(applied, "v18", panel) == identity(more, "v18", panel) == identity(config, "v18", panel)
    assert identity(applied, "v17", panel) != identity(config, "v17", panel)  # k of v18 is not searched there


# Sampling and pruning.


def drawn(path: Path, *goes: int) -> list[dict[str, Any]]:
    """Parameters of a cheap study that was opened anew for each go."""
    tune = small_config(startup=3).tune
    for trials in goes:
        study = optuna.create_study(
            study_name="s", storage=f"sqlite:///{path}", sampler=SeededByTrial(tune), load_if_exists=True
        )
        study.optimize(lambda trial: suggest(trial, "v18", tune)["train.lr"], n_trials=trials)
    return [trial.params for trial in study.trials]


def test_a_study_draws_the_same_in_one_go_and_in_two(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole.db", 6)
    assert whole == drawn(tmp_path / "parts.db", 2, 4)
    assert len({params["train.lr"] for params in whole}) == 6


class FakeTrial:
    """What a record needs of a trial."""

    def __init__(self) -> None:
        self.user_attrs: dict[str, Any] = {}
        self.reported: list[int] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append(step)

    def should_prune(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("variant", "every", "reported"),
    [
        ("v18", 1, [0, 1, 2, 3, 4, 5]),
        ("v18", 2, [0, 2, 4]),
        ("v18", 3, [0, 3]),
        ("v18", 0, [0]),
        ("v17", 3, [0, 1, 2, 3, 4, 5]),
        ("v19", 3, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_trials_are_compared_only_where_their_indexes_are_new(variant: str, every: int, reported: list[int]) -> None:
    trial: Any = FakeTrial()
    record = TrialRecord(trial, NullTracker(), "val/f1", variant, "")
    for epoch in range(6):
        age = float(epoch % every if every and variant == "v18" else epoch)
        assert record.after_epoch(epoch, {"index/age": age, "val/f1": 0.5})
    assert trial.reported == reported


def test_the_trainers_index_is_new_where_the_report_expects_it(make: Callable[..., Worker], tmp_path: Path) -> None:
    """The whole way: epochs reported by a real V18 with refreshes every second epoch."""
    worker = make("v18", epochs=4, refresh_every=(2,))
    study = run(worker, 1, tmp_path / "out")
    assert list(study.trials[0].intermediate_values) == [0, 2]


def test_a_pruned_trial_ends_early_and_its_run_says_so(
    root: Path, make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "_pruner", lambda tune: optuna.pruners.ThresholdPruner(lower=2.0))
    worker = make("v17", track=True, epochs=3)
    study = run(worker, 1, root / "out")
    (child,) = children(study.user_attrs["run_id"])
    assert study.trials[0].state == TrialState.PRUNED
    assert (child.info.status, child.data.tags["trial.state"]) == ("FINISHED", "PRUNED")
    assert [m.step for m in mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/f1")] == [0]
    assert not (root / "out" / "params.yaml").exists()  # nothing to apply
    assert not (root / "checkpoints" / study.study_name).exists()


# The study in MLflow, and what it leaves.


def test_a_study_and_its_trials_are_recorded_and_go_on(root: Path, make: Callable[..., Worker]) -> None:
    study = run(make("v18", track=True), 2, root / "out")
    parent = mlflow.get_run(study.user_attrs["run_id"])
    runs = children(parent.info.run_id)
    assert [r.data.tags["trial.state"] for r in runs] == ["COMPLETE", "COMPLETE"]
    for trial, child in zip(study.trials, runs, strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.params["train.lr"] == str(suggest_again(trial)["train.lr"])
        assert child.data.metrics["cost/seconds"] >= trial.user_attrs["seconds"] - 1e-3 > 0
        assert child.data.metrics["cost/refresh_seconds"] >= 0
        assert child.data.metrics["cost/memory_mb"] > 0
        history = mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/r2/all")
        assert trial.value in [m.value for m in history]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/complete"] == 2
    assert parent.data.metrics["best/value"] == max(trial.value or 0.0 for trial in study.trials)
    client = mlflow.MlflowClient()
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {"params.yaml", "trials.csv", "plots"}
    again = run(make("v18", track=True), 3, root / "out")
    assert len(again.trials) == 3
    assert again.user_attrs["run_id"] == parent.info.run_id
    assert len(children(parent.info.run_id)) == 3


def suggest_again(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return suggest(optuna.trial.FixedTrial(trial.params), "v18", small_config().tune)


def test_a_report_shows_four_figures_without_network(make: Callable[..., Worker], tmp_path: Path) -> None:
    study = run(make("v18", epochs=1), 6, tmp_path / "out")
    page = (tmp_path / "out" / "study.html").read_text()
    for title in ("Importance of parameters", "History", "Slices", "Refresh frequency against quality"):
        assert f"<h2>{title}</h2>" in page
    assert "Not drawn" not in page
    assert '<script src="' not in page
    assert page.count("plotly.js v") == 1  # the library itself, once
    assert (tmp_path / "out" / "trials.csv").read_text().count("\n") == 7
    assert [row["state"] for row in trial_rows(study)] == ["COMPLETE"] * 6


def test_figures_for_which_there_are_too_few_trials_say_so(make: Callable[..., Worker], tmp_path: Path) -> None:
    run(make("v17"), 1, tmp_path / "out")
    assert "Not drawn" in (tmp_path / "out" / "study.html").read_text()


def test_trials_beyond_the_constraint_do_not_win(make: Callable[..., Worker], tmp_path: Path) -> None:
    study = run(make("v17", constraint="memory_mb", limit=1.0), 1, tmp_path / "out")
    assert study.trials[0].state == TrialState.COMPLETE
    assert [row["feasible"] for row in trial_rows(study)] == [False]
    assert best_trial(study) is None
    assert not (tmp_path / "out" / "params.yaml").exists()
    within = run(make("v17", constraint="memory_mb", limit=1e6), 1, tmp_path / "out")
    assert within.study_name != study.study_name
    assert best_trial(within) is not None


# What goes wrong.


def test_parameters_that_diverge_end_a_trial_and_not_the_study(
    root: Path, make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, calls = Trainer._epoch, []

    def diverging(self: Trainer, *given: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 1:
            raise VcfbertError("diverged", "the loss became nan")
        return epoch(self, *given)

    monkeypatch.setattr(Trainer, "_epoch", diverging)
    study = run(make("v17", track=True), 2, root / "out")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    failed, _ = children(study.user_attrs["run_id"])
    assert failed.data.tags["trial.state"] == "FAILED"
    assert failed.data.tags["trial.why"] == "the loss became nan"
    assert summary(study)["trials/fail"] == 1


def test_other_errors_end_the_study(make: Callable[..., Worker], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(make("v17", objective="val/r2/0-0.5"), 1, tmp_path / "out")  # 24 samples have no such frequency
    assert caught.value.code == "objective_missing"


class Stops(SilentProgress):
    """Interrupted in the third batch of the second epoch."""

    def __init__(self) -> None:
        self.at, self.batches = -1, 0

    def epoch(self, epoch: int, epochs: int, steps: int) -> None:
        self.at, self.batches = epoch, 0

    def step(self, loss: float, f1: float, ms_per_batch: float) -> None:
        self.batches += 1
        if (self.at, self.batches) == (1, 3):
            raise Interrupted(2)


def test_an_interrupted_trial_goes_on_at_once_from_its_epoch_and_in_its_run(
    root: Path, make: Callable[..., Worker]
) -> None:
    with pytest.raises(Interrupted):
        run(make("v18", track=True, epochs=3, heartbeat=600, progress=Stops()), 1, root / "out")
    study = run(make("v18", track=True, epochs=3, heartbeat=600), 1, root / "out")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert [first_number(trial) for trial in study.trials] == [0, 0]
    (child,) = children(study.user_attrs["run_id"])
    assert (child.info.status, child.data.tags["trial.state"]) == ("FINISHED", "COMPLETE")
    steps = [m.step for m in mlflow.MlflowClient().get_metric_history(child.info.run_id, "val/f1")]
    assert steps == [0, 1, 2]  # the first epoch was not trained again
    assert len(trial_rows(study)) == 1


def test_a_worker_that_died_before_its_first_sign_of_life_leaves_no_gap(
    make: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = make("v17")
    study = queued(worker, 1)
    study.ask()  # taken from the queue, and never heard of again
    worker.storage.grace_period = 0
    assert worker.work(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_trial_whose_workers_keep_dying_is_given_up(root: Path, make: Callable[..., Worker]) -> None:
    worker = make("v17", track=True, retries=0)
    study = queued(worker, 1)
    tracker = worker.tracker(system_metrics=False)
    with tracker.start("dead", {}, {}) as run_id:
        trial = study.ask()
        trial.set_user_attr("run_id", run_id)
    worker.storage.grace_period = 0
    assert worker.work(study) == 0
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    dead = mlflow.get_run(run_id)
    assert (dead.info.status, dead.data.tags["trial.state"]) == ("FAILED", "FAILED")


def test_a_worker_that_was_taken_for_dead_leaves_the_trial_to_the_other(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Declared(SilentProgress):
        """Another declares the trial dead in its first epoch."""

        def epoch(self, epoch: int, epochs: int, steps: int) -> None:
            if study.trials[0].state == TrialState.RUNNING:
                worker._give_back(study, 0)

    worker = make("v17", progress=Declared())
    study = queued(worker, 1)
    assert worker.work(study) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_worker_needs_a_study(make: Callable[..., Worker]) -> None:
    with pytest.raises(InputError, match=r"no study .* was started") as caught:
        run_worker(make("v17"))
    assert caught.value.code == "study_missing"
    worker = make("v17")
    worker.create()
    with pytest.raises(InputError, match="was started"):  # its queue and its run are still to come
        run_worker(make("v17"))
    queued(worker, 1)
    assert run_worker(make("v17"))[1] == 1


def test_a_database_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "_PAUSE", 0.01)
    answers = [OperationalError("select", {}, sqlite3.OperationalError("gone")), None]

    def call() -> str:
        if answers and (error := answers.pop(0)) is not None:
            raise error
        return "back"

    assert patiently(call) == "back"
    with pytest.raises(OperationalError):
        patiently(lambda: failing(), patience=0.0)
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0)


def failing() -> None:
    raise OperationalError("select", {}, sqlite3.OperationalError("gone"))


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////nonexistent/folder/studies.db", "postgresql://u:pw@127.0.0.1:1/x"]
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        open_storage(url, heartbeat=1, retries=1)
    assert caught.value.code == "studies_unavailable"
    assert "pw" not in str(caught.value)
    assert shown_url("postgresql://u:pw@host/x") == "postgresql://u:***@host/x"


# Listing and applying.


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


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(profile_text("cpu"))
    return path


def patch_of(tmp_path: Path, values: Mapping[str, Any]) -> Path:
    path = tmp_path / "patch.yaml"
    path.write_text(yaml.safe_dump(nested(values)))
    return path


def test_a_patch_changes_its_values_and_no_other_line(tmp_path: Path, params: Path) -> None:
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
def test_a_patch_that_makes_no_valid_file_changes_nothing(
    tmp_path: Path, params: Path, values: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        apply_patch(patch_of(tmp_path, values), params)
    assert caught.value.code == code
    assert params.read_text() == profile_text("cpu")


def test_a_studys_patch_can_be_applied(make: Callable[..., Worker], tmp_path: Path, params: Path) -> None:
    study = run(make("v17"), 2, tmp_path / "out")
    best = best_trial(study)
    assert best is not None
    apply_patch(tmp_path / "out" / "params.yaml", params)
    config = load(params)
    assert config.retrieval.k["v17"] == best.params["retrieval.k.v17"]
    assert config.model.dims == best.params["model.dims"]


# What the trainer offers to studies.


def test_a_fit_without_a_bundle_ends_where_it_is_told_to(tiny_panel: Panel, tmp_path: Path) -> None:
    config = tiny_config({"train": {"epochs": 3}})
    tracker, told = MemoryTracker(), []

    def after_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        told.append((epoch, metrics["val/f1"]))
        return epoch < 1

    result = Trainer(tiny_panel, encode(tiny_panel, config.encode), config, "v17", accelerator="cpu").fit(
        None,
        tracker=tracker,
        checkpoints=tmp_path / "checkpoints",
        metrics_csv=tmp_path / "metrics.csv",
        tags={},
        data={},
        after_epoch=after_epoch,
    )
    assert told == [(epoch, metrics["val/f1"]) for epoch, metrics in enumerate(tracker.epochs)]
    assert len(told) == 2
    assert (tracker.bundles, result.model_uri) == ([], "")
    assert not list((tmp_path / "checkpoints").iterdir())
