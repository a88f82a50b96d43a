"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.errors import InputError

Model = Annotated[str, typer.Option(help="Bundle folder, or models:/NAME@ALIAS of the MLflow registry.")]
Device = Annotated[str, typer.Option(help="For V17 and V18: cpu, cuda, or auto, a GPU if there is one.")]

Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a target with records that cannot be used, instead of excluding them.")
]

Chain = Annotated[
    Path | None,
    typer.Option(help="UCSC chain file from the target's genome build to the panel's, for a target of another build."),
]

Build = Annotated[
    str | None,
    typer.Option(
        help="Genome build, for the PARs of X: b37 or b38, or none for another species. "
        "Default: found by X's length in the header."
    ),
]


def bundle_folder(model: str) -> Path:
    """The folder of the bundle that ``--model`` names. A registered model is downloaded once and cached."""
    if not model.startswith("models:/"):
        return Path(model)
    from vcfbert.tracking.model_cache import resolve

    return resolve(model)


def check_device(name: str) -> None:
    """Raises InputError 'device_invalid' where ``--device`` names none."""
    if name not in ("cpu", "cuda", "auto"):
        raise InputError("device_invalid", f"no such device: {name}", hint="use cpu, cuda or auto")


def check_variant(variant: str) -> None:
    """Raises InputError 'variant_invalid'."""
    from vcfbert.constants import VARIANTS

    if variant not in VARIANTS:
        raise InputError("variant_invalid", f"no such variant: {variant}", hint=f"use one of {', '.join(VARIANTS)}")
