"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcfbert.errors import InputError

Model = Annotated[str, typer.Option(help="Bundle folder, or models:/NAME@ALIAS of the MLflow registry.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")]


def bundle_folder(model: str) -> Path:
    """The folder of the bundle that ``--model`` names. A registered model is downloaded once and cached."""
    if not model.startswith("models:/"):
        return Path(model)
    from vcfbert.tracking.model_cache import resolve

    return resolve(model)


def torch_device(name: str) -> str:
    """The torch device that ``--device`` names. Raises InputError 'device_invalid' and 'device_missing'."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InputError("device_invalid", f"no such device: {name}", hint="use cpu, cuda or auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device_missing", "this machine has no CUDA device that torch can use", hint="use --device cpu"
        )
    return name


def check_variant(variant: str) -> None:
    """Raises InputError 'variant_invalid'."""
    from vcfbert.constants import VARIANTS

    if variant not in VARIANTS:
        raise InputError("variant_invalid", f"no such variant: {variant}", hint=f"use one of {', '.join(VARIANTS)}")
