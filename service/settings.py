"""Service settings from environment variables ``VCFBERT_*``, such as ``VCFBERT_MODEL``."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vcfbert.errors import InputError, VcfbertError

DEFAULT_ALIAS = "default"  # alias of ``Settings.model``
LOCAL = "local"  # name of every caller if no keys are configured

_MAX_NUMBER = 1_000_000_000  # of any setting; Python waits for no more than some times as many seconds
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64}):(?P<digest>[0-9a-f]{64})")


class Settings(BaseSettings):
    """Validated on construction. Secrets are excluded from its ``repr``."""

    model_config = SettingsConfigDict(
        env_prefix="VCFBERT_", env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    # Models
    model: str = "models:/vcfbert@champion"  # a registered model or a bundle's folder; its alias is `default`
    models: str = ""  # additional models: alias=reference, comma-separated
    chains: str = ""  # chain files that requests may name: name=path, comma-separated
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")  # cpu, cuda or cuda:N
    batch_size: int = Field(default=64, ge=1)  # diploid samples per forward pass
    threads: int = Field(default=2, ge=1)  # threads that compute, and as many that compress
    kept_windows_mb: int = Field(
        default=500, ge=0
    )  # host memory per model for prepared windows, in units of 10^6 bytes
    cache: Path | None = None  # downloaded bundles; None = the folder that `vcfbert` itself uses
    bundle_keys: str = ""  # PEM files of Ed25519 public keys, comma-separated: serve only bundles signed with one
    poll_seconds: float = Field(default=60.0, ge=0)  # interval of the check for newer model versions; 0 = never

    # Storage
    data: Path = Path("data/service")  # uploads, results, and the SQLite files of jobs and queue
    database_url: str = Field(default="", repr=False)  # job table shared by hosts: postgresql+psycopg://...
    redis_url: str = Field(default="", repr=False)  # queue and rates shared by hosts: redis://host:6379/0
    backend_seconds: float = Field(default=5.0, gt=0)  # in which PostgreSQL and Redis must answer
    embedded_worker: bool = True  # start a worker process with the service; else run `python -m service.worker`
    worker_metrics_port: int = Field(default=0, ge=0, le=65535)  # of `python -m service.worker`, on `host`; 0 = none
    result_hours: float = Field(default=48.0, gt=0)  # retention of a finished job's files
    kept_uploads: int = Field(default=10, ge=1)  # maximum checked uploads kept per key; another replaces the oldest
    kept_minutes: float = Field(default=60.0, gt=0)  # retention of a kept upload
    stale_seconds: float = Field(default=30.0, gt=0)  # time without a heartbeat after which a worker counts as dead

    # Sizes; MB are units of 10^6 bytes
    max_upload_mb: int = Field(default=200, ge=1)  # of a request body, checked while it arrives
    max_unpacked_mb: int = Field(default=4000, ge=1)  # of a decompressed upload
    max_samples: int = Field(default=5000, ge=1)  # in one upload
    max_sites: int = Field(default=2_000_000, ge=1)  # in one upload
    max_header_mb: int = Field(default=20, ge=1)  # of the header of an upload
    max_record_mb: int = Field(default=20, ge=1)  # of one record of an upload
    max_contigs: int = Field(default=100_000, ge=1)  # chromosomes that the header of an upload declares
    max_undeclared: int = Field(default=1000, ge=0)  # chromosomes, filters and keys of an upload that it does not
    max_keys: int = Field(default=1000, ge=1)  # filters and keys of INFO and FORMAT of one record
    max_small_samples: int = Field(default=500, ge=1)  # in one synchronous request; larger files need a job
    max_seconds: float = Field(default=3600.0, gt=0)  # of a job or a synchronous request
    stall_seconds: float = Field(default=60.0, gt=0)  # time in which a client sends or reads no data of a body
    parser_memory_mb: int = Field(default=1000, ge=50)  # host memory for parsing one upload
    parser_cpu_seconds: int = Field(default=600, ge=1)  # CPU time for parsing one upload
    parser_seconds: float = Field(default=900.0, gt=0)  # in which an upload must be parsed
    queue_limit: int = Field(default=100, ge=1)  # maximum queued jobs
    queued_per_key: int = Field(default=25, ge=1)  # maximum queued jobs per key

    # Access
    api_keys: str = Field(default="", repr=False)  # name:sha256, comma-separated: see `python -m service.keys`
    admin_keys: str = ""  # names of the keys that may reload models, comma-separated
    open: bool = False  # admit everyone who can reach the service, without keys
    rate_per_minute: int = Field(default=600, ge=1)  # maximum requests per key within a minute
    concurrent_per_key: int = Field(default=8, ge=1)  # maximum concurrent requests per key
    max_connections: int = Field(default=500, ge=1)  # open at once, also without a request
    header_seconds: float = Field(default=10.0, gt=0)  # in which the header of a request must arrive
    cors_origins: str = ""  # other origins whose pages may call the service, comma-separated

    # Process
    host: str = "127.0.0.1"  # of `python -m service`
    port: int = Field(default=8000, ge=0, le=65535)  # of `python -m service`
    drain_seconds: float = Field(default=30.0, ge=0)  # time for requests and jobs in flight to finish on shutdown
    log_json: bool = True  # logs as JSON, else as text
    otel: bool = False  # OpenTelemetry traces, sent to OTEL_EXPORTER_OTLP_ENDPOINT

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        for origin in _parts(text):
            if not re.fullmatch(r"https?://[^/*\s]+", origin):
                raise ValueError(f"{origin!r} is not an origin: write https://host or https://host:port")
        return text

    @field_validator("database_url")
    @classmethod
    def _database_address(cls, text: str) -> str:
        if text:
            from sqlalchemy import make_url
            from sqlalchemy.exc import SQLAlchemyError

            try:
                make_url(text).get_dialect()  # connects to nothing yet
            except (SQLAlchemyError, ValueError):  # their texts may quote the password
                raise ValueError("write postgresql+psycopg://USER:PASSWORD@HOST/DATABASE") from None
        return text

    @field_validator("*")
    @classmethod
    def _in_range(cls, value: object) -> object:
        if isinstance(value, float | int) and value > _MAX_NUMBER:
            raise ValueError(f"it is larger than {_MAX_NUMBER:g}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, text: str) -> str:
        if text:
            from redis import ConnectionPool

            try:
                ConnectionPool.from_url(text).make_connection()  # connects to nothing yet
            except (TypeError, ValueError):  # their texts may quote a part of the password
                raise ValueError("write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH") from None
        return text

    @field_validator("bundle_keys")
    @classmethod
    def _readable_keys(cls, text: str) -> str:
        if text:
            from vcfbert.bundle.signature import read_public_key

            for path in _parts(text):
                try:
                    read_public_key(Path(path))
                except VcfbertError as error:
                    raise ValueError(str(error)) from None
        return text

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.references  # noqa: B018 - validates `models`
        self.chain_files  # noqa: B018 - validates `chains`
        unknown = sorted(set(_parts(self.admin_keys)) - set(self.keys))
        if unknown:
            raise ValueError(f"admin_keys names {', '.join(unknown)}, but api_keys has no such key")
        return self

    @property
    def max_upload_bytes(self) -> int:
        """Maximum bytes of a request body."""
        return self.max_upload_mb * 1_000_000

    @cached_property
    def references(self) -> Mapping[str, str]:
        """Alias -> reference of every model to serve, the default model first."""
        return _named("models", self.models, "alias=reference", {DEFAULT_ALIAS: self.model})

    @cached_property
    def chain_files(self) -> Mapping[str, Path]:
        """Name -> path of every chain file that requests may name."""
        files = {name: Path(path) for name, path in _named("chains", self.chains, "name=path", {}).items()}
        missing = [name for name, path in files.items() if not path.is_file()]
        if missing:
            raise ValueError(f"chains: there is no file of {', '.join(missing)}")
        return files

    @cached_property
    def bundle_key_files(self) -> tuple[Path, ...]:
        """PEM files of the public keys with which served bundles must be signed; empty: bundles need no signature."""
        return tuple(map(Path, _parts(self.bundle_keys)))

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Name -> hex sha256 of each key."""
        return parse_keys(self.api_keys)

    @cached_property
    def admins(self) -> frozenset[str]:
        """Names of the keys that may reload models."""
        return frozenset(_parts(self.admin_keys))

    @cached_property
    def origins(self) -> tuple[str, ...]:
        """Other origins whose pages may call the service."""
        return _parts(self.cors_origins)


def _named(setting: str, text: str, form: str, known: Mapping[str, str]) -> dict[str, str]:
    """Reads ``form``, name=value,..., of a setting, and adds it to ``known``. Raises ValueError."""
    values = dict(known)
    name_of_name = form.partition("=")[0]
    for part in _parts(text):
        name, separator, value = part.partition("=")
        name = name.strip()
        if not separator or not _ALIAS.fullmatch(name) or not value.strip():
            what = f"{setting}: {part!r} is not {form}; the {name_of_name} has letters, digits, `_`, `.` and `-`"
            raise ValueError(what)
        if name in values:
            raise ValueError(f"{setting}: the {name_of_name} {name!r} appears twice")
        values[name] = value.strip()
    return values


def parse_keys(text: str) -> dict[str, str]:
    """Returns name -> hex sha256 of ``name:sha256,...``. Raises ValueError."""
    keys: dict[str, str] = {}
    for number, part in enumerate(_parts(text), start=1):
        match = _KEY.fullmatch(part)
        if match is None:  # the entry is not quoted, because it may be the key itself
            raise ValueError(f"api_keys: entry {number} is not name:sha256 (64 hex digits in lower case)")
        if match["name"] == LOCAL:
            raise ValueError(f"api_keys: the name {LOCAL!r} is reserved")
        if match["name"] in keys:
            raise ValueError(f"api_keys: the name {match['name']!r} appears twice")
        keys[match["name"]] = match["digest"]
    return keys


def override_environment(**settings: object) -> None:
    """Sets ``VCFBERT_*`` variables of this process; its worker inherits them. None leaves a variable unchanged."""
    os.environ.update({f"VCFBERT_{name.upper()}": str(value) for name, value in settings.items() if value is not None})


def read_settings() -> Settings:
    """Returns the settings of this process's environment. Raises InputError 'settings'."""
    try:
        return Settings()
    except ValidationError as error:
        raise InputError(
            "settings",
            "; ".join(_describe(tuple(item["loc"]), item["msg"]) for item in error.errors(include_input=False)),
            hint="docs/reference/settings.md lists the settings",
        ) from None  # the cause would show secret values


def _describe(location: tuple[int | str, ...], message: str) -> str:
    name = f"VCFBERT_{str(location[0]).upper()}: " if location else ""
    return name + message.removeprefix("Value error, ")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def is_loopback(host: str) -> bool:
    """Returns whether ``host``, a name or an address, can be reached only from this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def check_exposure(settings: Settings, host: str) -> None:
    """Raises InputError 'open_service' if ``host`` is not loopback and the service would admit everyone."""
    if not settings.keys and not settings.open and not is_loopback(host):
        raise InputError(
            "open_service",
            f"the service would listen on {host} without access keys",
            hint=f"set VCFBERT_API_KEYS (`python -m {__package__}.keys NAME` makes a key), listen on 127.0.0.1, "
            "or set VCFBERT_OPEN=true to admit everyone who can reach the service",
        )
