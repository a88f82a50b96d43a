"""Reads the tables beside PLINK's genotypes: samples (.fam, .psam) and variants (.bim, .pvar)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from vcfbert.errors import InputError
from vcfbert.genotypes.formats.target_file import invalid
from vcfbert.genotypes.formats.target_records import Samples, Variants

# Columns of chromosome, position, ID, A2 and A1 by the number of columns, where no header names them.
_NO_HEADER: Final = {5: (0, 2, 1, 4, 3), 6: (0, 3, 1, 5, 4)}
_MAX_DIGITS: Final = 11  # of a position


def read_samples(path: Path) -> Samples:
    """The samples of a .fam or .psam. Raises InputError: companion_missing, target_invalid."""
    pairs, male, columns = [], [], {"FID": 0, "IID": 1, "SEX": 4}
    for number, line in _lines(path):
        if line.startswith(("#FID", "#IID")):
            columns = {name.upper(): i for i, name in enumerate(line.lstrip("#").split())}
        if line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) <= columns["IID"]:
            raise invalid(path, f"line {number} has no sample name")
        place = columns.get("SEX", len(fields))
        pairs.append((fields[columns["FID"]] if "FID" in columns else "0", fields[columns["IID"]]))
        male.append(place < len(fields) and fields[place].upper() in ("1", "M"))
    return Samples(_unique_names(pairs), np.array(male, dtype=bool))


def _unique_names(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of pairs (family, individual): the individual's, with the family's before it if it occurs twice."""
    seen: dict[str, int] = {}
    for _, name in pairs:
        seen[name] = seen.get(name, 0) + 1
    return tuple(name if seen[name] == 1 else f"{family}_{name}" for family, name in pairs)


def read_variants(path: Path) -> Variants:
    """The variants of a .bim or .pvar. Raises InputError: companion_missing, target_invalid."""
    variants, columns = Variants(), None
    for number, line in _lines(path):
        if line.startswith("#CHROM"):
            columns = _named_columns(line, path)
        if line.startswith("#"):
            continue
        fields = line.split()
        places = columns or _NO_HEADER.get(len(fields))
        if places is None or len(fields) <= max(places):
            raise invalid(path, f"line {number} has {len(fields)} columns")
        chrom, pos, id_, first, others = (fields[place] for place in places)
        alts = others.split(",") if columns else (others,)
        variants.add(chrom, _position(pos, number, path), id_, (first, *alts))
    return variants


def _named_columns(line: str, path: Path) -> tuple[int, ...]:
    names = line.lstrip("#").split()
    try:
        return tuple(names.index(name) for name in ("CHROM", "POS", "ID", "REF", "ALT"))
    except ValueError as error:
        raise invalid(path, "the line #CHROM does not name POS, ID, REF and ALT") from error


def _position(text: str, number: int, path: Path) -> int:
    digits = text.removeprefix("-")  # PLINK ignores variants at negative positions
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise invalid(path, f"line {number}: {text[:20]!r} is no position")
    return int(text)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbers and texts of lines that are not empty, with any line ends."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                text = line.rstrip("\n")
                if not text.replace("\t", " ").isprintable():
                    raise invalid(path, f"line {number} has characters that cannot be printed")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise _missing(path) from error
    except UnicodeDecodeError as error:
        raise invalid(path, "the file has bytes that are not text", "save it as plain text in UTF-8") from error


def _missing(path: Path) -> InputError:
    hint = "put the files of one target into one folder, with one name but for the ending"
    if path.with_name(f"{path.name}.zst").is_file():
        hint = f"decompress it: plink2 --zst-decompress {path.name}.zst {path.name}"
    return InputError("companion_missing", "the file is missing or cannot be read", where=str(path), hint=hint)
