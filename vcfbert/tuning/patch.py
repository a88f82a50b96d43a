"""Writes the best parameters as a patch of ``params.yaml``, and applies such a patch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml

from vcfbert.artifacts import write_text
from vcfbert.config import Config, build
from vcfbert.config.yaml_text import parse_yaml, read_yaml
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.tuning.space import merge, nested, suggest
from vcfbert.tuning.storage import first_number


def write_patch(path: Path, study: optuna.Study, best: optuna.trial.FrozenTrial, config: Config, variant: str) -> None:
    """Writes the parameters of trial ``best`` to ``path``, with a comment that names the study and its value."""
    values = suggest(optuna.trial.FixedTrial(best.params), variant, config.tune)
    constraint = config.tune.constraint
    within = "" if constraint == "none" else f", {constraint} at most {config.tune.limit:g}"
    head = (
        f"# The best of study {study.study_name}: trial {first_number(best)},\n"
        f"# {config.tune.objective} {best.value:.4f}{within}.\n"
        f"# `vcfbert tune apply {path}` writes it to params.yaml.\n"
    )
    write_text(path, head + yaml.safe_dump(nested(values), sort_keys=False))


def apply_patch(patch: Path, params: Path) -> dict[str, tuple[Any, Any]]:
    """Writes the patch's values into ``params``, keeping its comments and order.

    Returns the changes: name -> (old value, new value). Raises InputError, and writes nothing, if the result would not
    be valid.
    """
    try:
        from ruamel.yaml import YAML
    except ModuleNotFoundError as error:
        hint = "pip install 'vcfbert[tune]'"
        raise MissingExtraError(
            "ruamel_missing", "ruamel.yaml, which preserves comments, is not installed", hint=hint
        ) from error

    changes = read_yaml(patch, missing="file_not_found", hint="give a patch written by `vcfbert tune`")
    body = read_yaml(params, missing="file_not_found", hint="repair the file")
    flat = dict(_leaves(changes))
    old = dict(_leaves(body))
    unknown = [name for name in flat if name not in old]
    if unknown:
        what = f"there is no {', '.join(unknown)} in {params}"
        raise InputError("patch_invalid", what, where=str(patch), hint="give a patch written by `vcfbert tune`")
    merge(body, changes)
    build(Config, body)
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096  # keep long lines whole
    editor.representer.add_representer(type(None), _null)
    document = editor.load(params.read_text())
    for name, value in flat.items():
        *parents, last = name.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    text = io.StringIO()
    editor.dump(document, text)
    if build(Config, parse_yaml(text.getvalue())) != build(Config, body):
        raise InputError("params_invalid", "the patch cannot be written to this file", where=str(params))
    write_text(params, text.getvalue())
    return {name: (old[name], value) for name, value in flat.items() if old[name] != value}


def _null(representer: Any, value: None) -> Any:
    """Writes ``null`` in full, as the profiles do."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _leaves(body: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in body.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found
