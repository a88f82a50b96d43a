"""``vcfbert bundle``: inspects and verifies bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_facts, print_json, say

bundle_app = typer.Typer(help="Inspect and verify trained bundles.", no_args_is_help=True)

BundlePath = Annotated[Path, typer.Argument(help="Bundle folder.")]


@bundle_app.command("inspect")
def bundle_inspect(path: BundlePath, as_json: JsonFlag = False) -> None:
    """Print a bundle's manifest.

    **Example**

    vcfbert bundle inspect models/v18
    """
    from vcfbert.artifacts import read_manifest
    from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND

    manifest = dict(read_manifest(path, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, verify=False))
    if as_json:
        print_json(manifest)
        return
    shown = ("variant", "k", "model", "encode", "metrics", "panel_digest", "provenance")
    print_facts({key: manifest[key] for key in shown})


@bundle_app.command("verify")
def bundle_verify(path: BundlePath) -> None:
    """Check a bundle's hashes, format, panel digest and indexes.

    **Example**

    vcfbert bundle verify models/v18
    """
    from vcfbert.bundle.load import load_bundle

    bundle = load_bundle(path)
    for panel in bundle.panels:
        say(f"{panel.region}: {panel.n_sites} sites, {panel.n_haplotypes} haplotypes")
    say(f"{path}: {bundle.variant}: sound")
