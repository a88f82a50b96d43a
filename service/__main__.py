"""Starts the service: ``vcfbert serve`` and ``python -m service``, on ``VCFBERT_HOST`` and ``VCFBERT_PORT``."""

from __future__ import annotations

import math
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn

from vcfbert.artifacts import output_error
from vcfbert.errors import InputError, VcfbertError

from .app import create_app
from .http import logs
from .http.connections import BACKLOG, Connections, limited_protocol, raise_file_limit
from .settings import check_exposure, override_environment, read_settings
from .storage import keep_private

_KEEP_ALIVE = 30  # seconds that an idle connection stays open; longer than most proxies' limit, so the proxy closes it


def main(*, host: str | None = None, port: int | None = None, model: str | None = None) -> int:
    """Serves until a signal stops the process; returns the exit code. Arguments override ``VCFBERT_*`` variables."""
    try:
        override_environment(host=host, port=port, model=model)
        settings = read_settings()
        check_exposure(settings, settings.host)
        logs.configure(settings.log_json)
        keep_private(settings.data)
        app = create_app(settings)
        _check_folder(settings.data)
        _check_address(settings.host, settings.port)
        app.state.jobs.open()
    except VcfbertError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        return error.exit_code
    raise_file_limit()
    uvicorn.run(
        app,
        http=limited_protocol(Connections(settings.max_connections, settings.header_seconds)),
        backlog=BACKLOG,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_seconds)),
    )
    return 0


def _check_folder(data: Path) -> None:
    """Raises InputError 'output_not_writable', before the server starts, if ``VCFBERT_DATA`` cannot be written."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=data).close()
    except OSError as error:
        raise output_error(error, data) from error


def _check_address(host: str, port: int) -> None:
    """Raises InputError 'address_unavailable', before the server starts, if it cannot listen on ``host`` and ``port``.

    The server would exit with a line of its log and a code of its own.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                if family == socket.AF_INET6:  # it would also take the IPv4 port
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise InputError(
            "address_unavailable",
            f"the service cannot listen on {host}, port {port} ({getattr(error, 'strerror', None) or error})",
            hint="stop the program that uses the port, or choose another one (`--port`, VCFBERT_PORT, VCFBERT_HOST)",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
