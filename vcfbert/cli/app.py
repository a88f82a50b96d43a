"""The command line, ``vcfbert --help``: assembles the commands, of which each has a module in this room.

The modules of this room parse arguments and call the library. No other room parses arguments.
"""

from __future__ import annotations

import atexit
import gc
import logging
from typing import Annotated

import typer

from vcfbert import __version__
from vcfbert.cli.bundle import bundle_app
from vcfbert.cli.compare import compare
from vcfbert.cli.config import config_app
from vcfbert.cli.console import open_missing_streams, say, tell
from vcfbert.cli.data import data_app
from vcfbert.cli.evaluate import evaluate
from vcfbert.cli.fit import fit
from vcfbert.cli.impute import impute
from vcfbert.cli.panel import panel_app
from vcfbert.cli.qc import qc
from vcfbert.cli.registry import registry_app
from vcfbert.cli.remote import remote_app
from vcfbert.cli.serve import serve
from vcfbert.cli.simulate import simulate
from vcfbert.cli.tune import tune_app
from vcfbert.exits import clean_exit

app = typer.Typer(
    name="vcfbert",
    help="Genotype imputation from a phased reference panel.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (fit, impute, qc, evaluate, compare, simulate, serve):
    app.command()(command)
for name, group in (
    ("panel", panel_app),
    ("bundle", bundle_app),
    ("config", config_app),
    ("data", data_app),
    ("tune", tune_app),
    ("registry", registry_app),
    ("remote", remote_app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Runs the command line. An error that the user can act on ends with its text and exit code, no traceback."""
    open_missing_streams()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Importing torch creates many permanent objects. Searching them for cycles, during the import and again at exit,
    # would take as long as imputing a few samples.
    gc.set_threshold(100_000)
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
