"""Finds the files of a target by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vcfbert.errors import InputError

# The files that a file is read with, by its ending.
COMPANIONS: Final = {".bed": (".bim", ".fam"), ".pgen": (".pvar", ".psam")}


def companions(path: Path) -> tuple[Path, ...]:
    """Paths of the files that ``path`` is read with. They may not exist. A VCF has none."""
    return tuple(path.with_suffix(ending) for ending in COMPANIONS.get(path.suffix, ()))


def existing_target(path: Path) -> Path:
    """``path``, or the .bed or .pgen file whose name without its ending it is.

    Raises InputError('file_ambiguous') if both are there.
    """
    if path.exists():
        return path
    found = [file for ending in COMPANIONS if (file := Path(f"{path}{ending}")).is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise InputError("file_ambiguous", f"{names} exist", where=str(path), hint="give the name with its ending")
    return found[0] if found else path


def target_files(path: Path) -> tuple[Path, ...]:
    """All files of a target: ``existing_target`` and those that it is read with."""
    path = existing_target(path)
    return (path, *companions(path))


def invalid(path: Path, what: str, hint: str | None = None) -> InputError:
    """The error of a file that is damaged or does not fit those beside it."""
    return InputError("target_invalid", what, where=str(path), hint=hint or "write the file again, or give a VCF")
