"""Where studies are kept: SQLite for one machine, PostgreSQL for many workers.

Workers give signs of life (heartbeats) while a trial runs. One that is killed stops giving them; whoever asks for the
next trial puts its trial back into the queue, with all that it had found, and the trial goes on from its last epoch's
checkpoint where that is within reach, else from its start.
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

PATIENCE = 300.0  # seconds that a database may be away, as while it is restarted, before a worker gives up
_PAUSE = 0.5  # between two attempts
_MISSED = 3  # heartbeats without which a worker is dead
RUN_ID = "run_id"  # user attribute of studies and trials: their run in MLflow

T = TypeVar("T")


class TakeUp:
    """Queues a dead worker's trial again, ``retries`` times at most; then its MLflow run ends as FAILED."""

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
    """The number under which a trial was first tried: what its attempts have in common."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def earlier_attempts(trial: optuna.trial.FrozenTrial) -> list[int]:
    """Numbers of the attempts at this trial whose workers died, in their order."""
    return list(trial.system_attrs.get("retry_history", []))


class PatientStorage(RDBStorage):
    """A sign of life that cannot be given because the database is away is given when it is back: the thread that
    gives them would end with the first error, and a trial that runs would be taken for dead."""

    def record_heartbeat(self, trial_id: int) -> None:
        patiently(lambda: super(PatientStorage, self).record_heartbeat(trial_id))


def open_storage(url: str, *, heartbeat: int, retries: int) -> PatientStorage:
    """The database at ``url``, its tables created if need be. Raises InputError where it cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # trials are told of in our own messages
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if url.startswith(("postgres://", "postgresql://")):
        url = f"postgresql+psycopg://{url.split('://', 1)[1]}"
    sqlite = url.startswith("sqlite")
    # A connection that a restart cut is noticed and replaced before it is used.
    engine: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"timeout" if sqlite else "connect_timeout": 30}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = PatientStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=heartbeat,
                grace_period=_MISSED * heartbeat,
                heartbeat_stale_trial_callback=TakeUp(retries),
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
    """Without the password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "--storage"


def patiently(call: Callable[[], T], patience: float = PATIENCE) -> T:
    """The call's value, asked for again while the database is away."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return call()
        except (StorageInternalError, OperationalError) as error:
            away = isinstance(error, OperationalError) or isinstance(error.__cause__, OperationalError)
            if not away or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE)


def _connect_patiently(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE)
