"""``vcfbert bundle``: inspects, signs and verifies bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.cli.console import JsonFlag, print_facts, print_json, say

bundle_app = typer.Typer(help="Inspect, sign and verify trained bundles.", no_args_is_help=True)

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


@bundle_app.command("sign")
def bundle_sign(path: BundlePath, key: Annotated[Path, typer.Option(help="Ed25519 private key, a PEM file.")]) -> None:
    """Sign a bundle. The signature is a file of its own in the bundle's folder.

    The service accepts no other bundles if VCFBERT_BUNDLE_KEYS names public keys.

    **Examples**

    openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem

    vcfbert bundle sign models/v18 --key key.pem
    """
    from vcfbert.artifacts import check_files
    from vcfbert.bundle.signature import sign_bundle
    from vcfbert.constants import BUNDLE_KIND

    check_files(path, BUNDLE_KIND)  # a damaged bundle gets no signature
    say(f"{sign_bundle(path, key)}: signed")


@bundle_app.command("verify")
def bundle_verify(
    path: BundlePath,
    key: Annotated[
        Path | None, typer.Option(help="Public key, a PEM file. The bundle must have a signature made with it.")
    ] = None,
) -> None:
    """Check a bundle's hashes, format, panel digest and indexes, and with `--key` its signature.

    **Examples**

    vcfbert bundle verify models/v18

    vcfbert bundle verify models/v18 --key public.pem
    """
    from vcfbert.bundle.load import load_bundle

    if key is not None:
        from vcfbert.bundle.signature import check_signature, read_public_key

        check_signature(path, [read_public_key(key)])
    bundle = load_bundle(path)
    for panel in bundle.panels:
        say(f"{panel.region}: {panel.n_sites} sites, {panel.n_haplotypes} haplotypes")
    say(f"{path}: {bundle.variant}: sound")
