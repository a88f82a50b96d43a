"""``vcfbert serve``: starts the HTTP service of this installation."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from vcfbert.errors import MissingExtraError

# The wheel installs the first; a checkout has the second. Imported by name, because no module of the library may depend
# on the service.
PACKAGES = ("vcfbert_service", "service")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: VCFBERT_HOST or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: VCFBERT_PORT or 8000.", min=1)] = None,
    model: Annotated[
        str | None, typer.Option(help="Bundle folder or models:/NAME@ALIAS. Default: VCFBERT_MODEL or the champion.")
    ] = None,
) -> None:
    """Start the HTTP service and its page.

    The service reads every other setting from the environment; the documentation lists them.

    **Examples**

    vcfbert serve --model bundles/chr20

    vcfbert serve --model models:/vcfbert@champion --port 9000
    """
    package = next((name for name in PACKAGES if find_spec(name) is not None), None)
    if package is None or find_spec("uvicorn") is None:
        raise MissingExtraError(
            "service_missing", "the HTTP service needs FastAPI", hint="pip install 'vcfbert[service]'"
        )
    raise typer.Exit(import_module(f"{package}.__main__").main(host=host, port=port, model=model))
