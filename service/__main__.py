"""Starts the service: ``vcfbert serve`` and ``python -m service``, on ``VCFBERT_HOST`` and ``VCFBERT_PORT``."""

from __future__ import annotations

import math
import sys

import uvicorn

from vcfbert.errors import VcfbertError

from .app import create_app
from .http import logs
from .settings import check_exposure, override_environment, read_settings

_KEEP_ALIVE = 30  # seconds that an idle connection stays open; longer than most proxies' limit, so the proxy closes it


def main(*, host: str | None = None, port: int | None = None, model: str | None = None) -> int:
    """Serve until a signal stops the process; return the exit code. Arguments override ``VCFBERT_*`` variables."""
    try:
        override_environment(host=host, port=port, model=model)
        settings = read_settings()
        check_exposure(settings, settings.host)
        logs.configure(settings.log_json)
        app = create_app(settings)
    except VcfbertError as error:
        print(f"error [{error.code}] {error}", file=sys.stderr)
        return error.exit_code
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_seconds)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
