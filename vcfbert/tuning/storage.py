"""The database of studies: SQLite for one machine, PostgreSQL for many workers.

A worker sends heartbeats while a trial runs. After three misses, the worker that asks for the next trial re-queues the
dead worker's trial with its recorded values. The trial resumes from its last checkpoint if the new worker can read it,
and otherwise from its start.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from vcfbert.errors import InputError
from vcfbert.tracking.mlflow_tracker import close_run

PATIENCE = 300.0  # seconds that a database may be unavailable, such as during a restart, before a worker gives up
PAUSE = 0.5  # seconds between two attempts
_MISSED = 3  # missed heartbeats after which a worker counts as dead
RUN_ID = "run_id"  # user attribute of studies and trials: their run in MLflow

T = TypeVar("T")


class RequeueTrial:
    """Re-queues a dead worker's trial, at most ``retries`` times. Then its MLflow run ends as FAILED."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._queue = RetryHeartbeatStaleTrialCallback(max_retry=retries, inherit_intermediate_values=True)

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if len(earlier_attempts(trial)) < self._retries:
            self._queue(study, trial)
        elif trial.user_attrs.get(RUN_ID):
            close_run(trial.user_attrs[RUN_ID], {"trial.state": "FAILED", "trial.why": "its workers died"})


def first_number(trial: optuna.trial.FrozenTrial) -> int:
    """The number of the trial's first attempt, which all its attempts share."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def earlier_attempts(trial: optuna.trial.FrozenTrial) -> list[int]:
    """Numbers of the attempts at this trial whose workers died, in order."""
    return list(trial.system_attrs.get("retry_history", []))


class PatientStorage(RDBStorage):
    """Repeats a heartbeat while the database is unavailable.

    Otherwise the thread that sends them would end at the first error, and a running trial would count as dead.
    """

    def record_heartbeat(self, trial_id: int) -> None:
        patiently(lambda: super(PatientStorage, self).record_heartbeat(trial_id))


def open_storage(url: str, *, heartbeat: int, retries: int) -> PatientStorage:
    """Opens the database at ``url`` and creates missing tables. Raises InputError if it cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our own messages report trials
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if url.startswith(("postgres://", "postgresql://")):
        url = f"postgresql+psycopg://{url.split('://', 1)[1]}"
    sqlite = url.startswith("sqlite")
    # A connection cut by a restart is replaced before its next use.
    engine: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"timeout" if sqlite else "connect_timeout": 30}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = PatientStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=heartbeat,
                grace_period=_MISSED * heartbeat,
                heartbeat_stale_trial_callback=RequeueTrial(retries),
            )
    except (ArgumentError, ImportError, SQLAlchemyError, RuntimeError) as error:
        raise InputError(
            "studies_unavailable",
            f"the database of studies cannot be used ({' '.join(str(error).split())})",
            where=shown_url(url),
            hint="check --storage or VCFBERT_STUDIES; PostgreSQL needs `pip install 'vcfbert[postgres]'`",
        ) from error
    if not sqlite:
        sqlalchemy.event.listen(storage.engine, "do_connect", _connect_patiently)
    return storage


def shown_url(url: str) -> str:
    """The URL without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "--storage"


def patiently(call: Callable[[], T], patience: float = PATIENCE, pause: float = PAUSE) -> T:
    """The result of ``call``, repeated every ``pause`` seconds for ``patience`` seconds while the database is
    unavailable."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return call()
        except (StorageInternalError, OperationalError) as error:
            unavailable = isinstance(error, OperationalError) or isinstance(error.__cause__, OperationalError)
            if not unavailable or time.monotonic() > deadline:
                raise
        time.sleep(pause)


def _connect_patiently(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)
