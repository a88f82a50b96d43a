"""The command line, ``vcfbert --help``: assembles the commands, of which each has a module in this room.

The modules of this room parse arguments and call the library. No other room parses arguments.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
from typing import Annotated

import typer

from vcfbert import __version__
from vcfbert.cli.console import open_missing_streams, say, tell
from vcfbert.cli.lazy import MARKUP, LazyGroup
from vcfbert.exits import clean_exit

app = typer.Typer(
    name="vcfbert",
    cls=LazyGroup,
    help="Genotype imputation from a phased reference panel.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line. An error that the user can act on ends with its text and exit code, no traceback."""
    open_missing_streams()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Importing torch creates many permanent objects. Searching them for cycles, during the import and again at exit,
    # would take as long as imputing a few samples.
    gc.set_threshold(100_000)
    # The threads of numpy's OpenBLAS spin for some 60 ms after its import unless they are told to sleep.
    os.putenv("OPENBLAS_THREAD_TIMEOUT", "4")
    atexit.register(gc.freeze)
    with clean_exit(tell):
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Genotype imputation from a phased reference panel."""
