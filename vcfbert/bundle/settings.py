"""Checks the settings of a bundle's manifest, which anyone may have edited, before anything uses them.

The checks are plain, because V19 imputes without pydantic. V17 and V18 build their configuration with it as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from vcfbert.artifacts import MANIFEST
from vcfbert.errors import ArtifactError

MAX_INTEGER: Final = 2**31 - 1  # as for parameters
_MAX_SHOWN: Final = 60  # characters of a value in a message
_DAMAGED_HINT: Final = "copy the whole bundle again, or fit it again: `vcfbert fit` or `dvc repro`"


def check_settings(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ArtifactError 'bundle_damaged' for the first setting that is missing or cannot be used."""
    for name, expected, fits in _SETTINGS:
        section, _, key = name.rpartition(".")
        values = manifest[section] if section else manifest
        if key not in values:
            raise damaged(path, f"{MANIFEST} lacks {name}; it must be {expected}")
        if not fits(values[key]):
            shown = json.dumps(values[key])
            shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
            raise damaged(path, f"{MANIFEST}: {name} is {shown}; it must be {expected}")
    if manifest["variant"] == "v19" and manifest["k"] == 0:
        raise damaged(path, f"{MANIFEST}: k is 0; it must be a whole number of at least 1 for V19")


def damaged(path: Path, what: str) -> ArtifactError:
    """The error of a bundle at ``path`` that is not as it was written."""
    return ArtifactError("bundle_damaged", what, where=str(path), hint=_DAMAGED_HINT)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_section(value: Any) -> bool:
    return isinstance(value, dict)


def _is_integer(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= MAX_INTEGER


def _is_length(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


# Name, what it must be, and whether a value is that. A section stands before its settings.
_SETTINGS: Final[tuple[tuple[str, str, Callable[[Any], bool]], ...]] = (
    ("variant", "a text", _is_text),
    ("panel_digest", "a text", _is_text),
    ("k", "a whole number of at least 0", lambda value: _is_integer(value, 0)),  # 0: a network without retrieval
    ("metrics", "a mapping", _is_section),
    ("model", "a mapping", _is_section),
    ("encode", "a mapping", _is_section),
    ("encode.copy_window", "a whole number of at least 8", lambda value: _is_integer(value, 8)),
    ("encode.copy_span_cm", "a number of at least 0", _is_length),
)
