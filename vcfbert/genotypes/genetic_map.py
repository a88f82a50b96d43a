"""Genetic maps: convert base positions to centimorgans. Reads the common file formats."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcfbert.constants import DEFAULT_CM_PER_MB
from vcfbert.errors import InputError
from vcfbert.genotypes.bgzf import GZIP_MAGIC
from vcfbert.genotypes.regions import Region, names_of


@dataclass(frozen=True)
class GeneticMap:
    """A genetic map of one chromosome.

    ``pos`` int64 [n]: base positions, 1-based and ascending. ``cm_at`` float64 [n]: their genetic positions in
    centimorgans, which never fall. Before the first and after the last point the map continues at ``end_rate`` cM/Mb.
    ``source`` names the file and format.
    """

    pos: npt.NDArray[np.int64]
    cm_at: npt.NDArray[np.float64]
    end_rate: float
    source: str

    @classmethod
    def uniform(cls, cm_per_mb: float = DEFAULT_CM_PER_MB) -> GeneticMap:
        """A map of constant rate, in cM/Mb."""
        zero = np.zeros(1)
        return cls(zero.astype(np.int64), zero, cm_per_mb, f"uniform, {cm_per_mb:g} cM/Mb")

    @classmethod
    def read(cls, path: Path, chrom: str, region: Region | None = None) -> GeneticMap:
        """Reads the map of ``chrom`` ('20' and 'chr20' are the same) from a file, gzipped or not.

        Maps of X are published by part, each from 0 cM on. Of a file that joins them the rows of ``region`` are used.

        Formats: SHAPEIT and GLIMPSE ``pos chr cM``; SHAPEIT2 ``pos rate cM``; PLINK .map ``chr id cM pos`` (no header);
        HapMap and Eagle ``chr pos rate cM``. A header decides the format; without one the number of columns does.
        Raises InputError: file_not_found, map_invalid, map_chromosome, map_backwards, map_flat.
        """
        rows = _rows(path)
        layout = _layout(rows, path)
        pos, cm = _points(rows, layout, chrom, path)
        if region is not None and _goes_back(pos, cm).any():
            inside = (pos >= region.start) & (pos <= (pos.max() if region.stop is None else region.stop))
            pos, cm = (pos[inside], cm[inside]) if inside.any() else (pos, cm)
        _check_forward(pos, cm, path)
        if len(pos) > 1 and cm[0] == cm[-1]:
            raise InputError(
                "map_flat",
                f"the map has no length: every position of chromosome {chrom} is at {cm[0]:g} cM",
                where=str(path),
                hint="check that its column of centimorgans is not one of rates, or give no map for 1 cM/Mb",
            )
        first = np.append(True, np.diff(pos) > 0)  # of a repeated position the first row counts
        return cls(pos[first], cm[first], DEFAULT_CM_PER_MB, f"{path.name} ({layout.name})")

    @classmethod
    def of_region(cls, paths: Sequence[Path], region: Region) -> GeneticMap:
        """Of the maps of the region's chromosome the one that covers most of it; a uniform map without ``paths``.

        Raises InputError as ``read`` does, and map_invalid where one of several maps has no column of chromosomes.
        """
        for path in paths if len(paths) > 1 else ():
            if _layout(_rows(path), path).chrom is None:
                raise _invalid(path, "it has no column of chromosomes, which is required where several maps are given")
        found = []
        for number, path in enumerate(paths, start=1):
            try:
                found.append(cls.read(path, region.chrom, region))
            except InputError as error:
                if error.code != "map_chromosome" or (number == len(paths) and not found):
                    raise
        return max(found, key=lambda one: one.bases_within(region)) if found else cls.uniform()

    def bases_within(self, region: Region) -> int:
        """Bases of ``region`` between the first and the last point of the map; 0 or less if there are none."""
        last = int(self.pos[-1])
        return (last if region.stop is None else min(last, region.stop)) - max(int(self.pos[0]), region.start)

    def covers(self, pos: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Whether each position [n] lies between the first and the last point of the map."""
        return np.asarray((pos >= self.pos[0]) & (pos <= self.pos[-1]))

    def cm(self, pos: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Genetic positions [n] of base positions [n], in centimorgans; linear between the map's points."""
        at = np.asarray(pos, dtype=np.float64)
        inside = np.interp(at, self.pos.astype(np.float64), self.cm_at)
        beyond = np.minimum(at - self.pos[0], 0.0) + np.maximum(at - self.pos[-1], 0.0)
        return np.asarray(inside + beyond * self.end_rate * 1e-6)


@dataclass(frozen=True)
class _Layout:
    """Column numbers of a map file; ``chrom`` None where the file has no chromosome column."""

    name: str
    chrom: int | None
    pos: int
    cm: int
    header: bool


def _rows(path: Path) -> list[list[str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == GZIP_MAGIC else data).decode()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError("file_not_found", "no such file", where=str(path), hint="check the path") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _invalid(path, f"the file cannot be read as text ({error})") from error
    rows = [line.replace(",", " ").split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    if not rows:
        raise _invalid(path, "the file is empty")
    return rows


def _layout(rows: list[list[str]], path: Path) -> _Layout:
    header = [name.lstrip("#").lower() for name in rows[0]]
    if not any(_is_number(value) for value in header[1:]):
        return _layout_of_header(header, path)
    if len(header) == 3:
        return _Layout("SHAPEIT/GLIMPSE", chrom=1, pos=0, cm=2, header=False)
    if len(header) == 4:
        # Both PLINK and headerless HapMap maps have four columns; only PLINK ends with a base position.
        if all(row[-1].lstrip("-").isdigit() for row in rows[:100]):
            return _Layout("PLINK", chrom=0, pos=3, cm=2, header=False)
        return _Layout("HapMap", chrom=0, pos=1, cm=3, header=False)
    raise _invalid(path, f"its first line has {len(header)} columns")


def _layout_of_header(header: list[str], path: Path) -> _Layout:
    def column(*beginnings: str) -> int | None:
        return next((i for i, name in enumerate(header) if name.startswith(beginnings) and not _is_rate(name)), None)

    chrom = column("chr")
    pos = column("pos", "bp")
    cm = column("cm", "map", "genetic_map", "gen_map")
    if pos is None or cm is None:
        what = "its header lacks a column of positions, or of centimorgans (a rate in cM/Mb is none)"
        raise _invalid(path, f"{what}: {' '.join(header)}")
    name = "SHAPEIT/GLIMPSE" if len(header) == 3 else "HapMap"
    return _Layout(name, chrom, pos, cm, header=True)


def _is_rate(name: str) -> bool:
    return "rate" in name or "/mb" in name or "permb" in name


def _points(
    rows: list[list[str]], layout: _Layout, chrom: str, path: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    body = rows[1:] if layout.header else rows
    width = max(layout.chrom or 0, layout.pos, layout.cm) + 1
    narrow = next((row for row in body if len(row) < width), None)
    if narrow is not None:
        raise _invalid(path, f"a line has {len(narrow)} columns instead of at least {width}: {' '.join(narrow)!r}")
    if layout.chrom is not None:
        names = {row[layout.chrom] for row in body}
        wanted = set(names_of(chrom, names))
        if not wanted:
            raise InputError(
                "map_chromosome",
                f"the map has no chromosome {chrom}; it holds {', '.join(sorted(names)[:30]) or 'no rows'}",
                where=str(path),
                hint=f"give the map of chromosome {chrom}",
            )
        body = [row for row in body if row[layout.chrom] in wanted]
    try:
        pos = np.array([row[layout.pos] for row in body], dtype=np.float64).astype(np.int64)
        cm = np.array([row[layout.cm] for row in body], dtype=np.float64)
    except ValueError as error:
        raise _invalid(path, f"a position is not a number ({error})") from error
    if not len(pos) or not np.isfinite(cm).all():
        raise _invalid(path, "it has no rows" if not len(pos) else "a genetic position is not finite")
    return pos, cm


def _goes_back(pos: npt.NDArray[np.int64], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (np.diff(pos) < 0) | (np.diff(cm) < 0)


def _check_forward(pos: npt.NDArray[np.int64], cm: npt.NDArray[np.float64], path: Path) -> None:
    back = np.flatnonzero(_goes_back(pos, cm))
    if len(back):
        i = int(back[0])
        raise InputError(
            "map_backwards",
            f"the map goes backwards: {pos[i]} at {cm[i]:g} cM is followed by {pos[i + 1]} at {cm[i + 1]:g} cM",
            where=str(path),
            hint="both columns must rise: sort the map, or use a map of the panel's genome build",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _invalid(path: Path, what: str) -> InputError:
    return InputError(
        "map_invalid",
        f"not a genetic map: {what}",
        where=str(path),
        hint="columns `pos chr cM`, `chr id cM pos` or `chr pos rate cM`",
    )
