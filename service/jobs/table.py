"""The job table's columns, format version and database engine: SQLite, or PostgreSQL for several hosts."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from vcfbert.artifacts import disk_full
from vcfbert.errors import ArtifactError, ResourceError

from .patience import with_time_limit

FORMAT_VERSION = 1
_CREATING = 811_002_017  # key of the advisory lock in PostgreSQL
_BUSY_SECONDS = 30
SQLITE_FULL = "disk is full"  # SQLite reports a full disk by this text alone

metadata = MetaData()
_json = JSON(none_as_null=True)

# One row. It says which format the tables have, and whoever locks it is alone in counting the queue.
format_row = Table("vcfbert_jobs_format", metadata, Column("version", Integer, nullable=False))

jobs = Table(
    "vcfbert_jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("caller", String(200), nullable=False),
    Column("state", String(10), nullable=False),
    Column("name", String(300), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("options", _json, nullable=False),
    Column("model", _json, nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("expires", Float),
    Column("attempt", Integer, nullable=False, default=0),
    Column("worker", String(400)),
    Column("heartbeat", Float),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=False, default=0),
    Column("qc", _json),
    Column("summary", _json),
    Column("error", _json),
    Index("vcfbert_jobs_state", "state", "created"),
    Index("vcfbert_jobs_caller", "caller", "created"),
)


def connect(database_url: str, data: Path, seconds: float = 5.0) -> Engine:
    """An engine for ``database_url``, or for ``data``/jobs.sqlite if it is ''. Missing tables are created.

    ``seconds``: in which the database must answer a connection attempt and every statement.

    Raises ResourceError 'jobs_unreachable', and ArtifactError 'jobs_format' if the tables have another format.
    """
    url = database_url or f"sqlite:///{(data / 'jobs.sqlite').resolve()}"
    turn = nullcontext() if database_url else _alone(data)
    try:
        with turn, transaction(engine := _engine(url, seconds), writes=True) as connection:
            _create(connection)
    except ImportError as error:
        raise _unreachable(error) from error
    return engine


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Waits until no other process or thread opens this SQLite file for the first time.

    The first connection sets the journal mode. SQLite refuses that at once, whatever its timeout, while another one
    holds the file.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "jobs.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def transaction(engine: Engine, *, writes: bool = False) -> Iterator[Connection]:
    """A transaction, committed at its end.

    With ``writes`` it takes the write lock at its start: in SQLite a transaction that reads before it writes cannot
    wait for the lock. Raises ResourceError 'jobs_unreachable', and DiskFullError.
    """
    try:
        with engine.execution_options(vcfbert_writes=writes).begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        if SQLITE_FULL in str(error):
            raise disk_full(OSError(errno.ENOSPC, "no space for the job table"), None) from error
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> ResourceError:
    # The text of the error is not shown, because it may contain the database's password.
    return ResourceError(
        "jobs_unreachable",
        f"the job table cannot be reached ({type(error).__name__})",
        hint="try again; the operator should look at VCFBERT_DATA or VCFBERT_DATABASE_URL",
    )


def _engine(url: str, seconds: float) -> Engine:
    if not url.startswith("sqlite"):
        return with_time_limit(create_engine(url, pool_pre_ping=True, pool_timeout=seconds), seconds)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # `begin` below starts transactions, not the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("vcfbert_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create(connection: Connection) -> None:
    """Creates missing tables. Several processes may do so at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATING})
    metadata.create_all(connection)
    version = connection.execute(select(format_row.c.version)).scalar_one_or_none()
    if version is None:
        connection.execute(insert(format_row).values(version=FORMAT_VERSION))
    elif version != FORMAT_VERSION:
        raise ArtifactError(
            "jobs_format",
            f"the job table has format {version}; this version of vcfbert needs format {FORMAT_VERSION}",
            hint="finish the jobs with the version of vcfbert that wrote them, or use another data folder",
        )
