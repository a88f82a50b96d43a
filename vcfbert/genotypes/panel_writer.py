"""Writes the files of a panel block by block, so that host memory does not grow with the number of sites."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.record_info import RecordInfo, joined_lines
from vcfbert.genotypes.regions import Region
from vcfbert.genotypes.site_blocks import cut_blocks

ROWS: Final = "rows.npy"
NUMBERS: Final = "numbers.npy"
SITES: Final = "sites.npz"

_NUMBERS: Final = {"pos": "<i4", "continues": "|b1", "cm": "<f8", "allele_count": "<i8"}
_BLOCKS: Final = {"first_site": "<i8", "first_row": "<i8"}
TEXTS: Final = ("ref", "alt", "id")
# Columns that only a panel with ``Sites.info`` has: a text per site, and the lines of the header.
INFO: Final = ("info", "info_header")


class PanelWriter:
    """Writes ``rows.npy``, ``numbers.npy`` and ``sites.npz`` of a panel into ``folder``, consecutive sites at a time.

    ``haploid``: as in ``Panel``.
    """

    def __init__(self, folder: Path, region: Region, samples: Sequence[str], haploid: Sequence[int]) -> None:
        self._folder = folder
        self._n_haplotypes = 2 * len(samples) - len(haploid)
        self._n_sites = 0
        self._left = np.empty((0, row_bytes(self._n_haplotypes)), np.uint8)  # sites that do not fill a block yet
        self._rows = _Column(folder / ROWS, "<u8")
        self._numbers = _Column(folder / NUMBERS, "<u2", (self._n_haplotypes,))
        self._columns = {name: _Column(folder / f"{name}.npy", kind) for name, kind in _NUMBERS.items()}
        self._columns |= {name: _Column(folder / f"{name}.npy", "|u1") for name in (*TEXTS, *INFO)}
        self._info_header: tuple[str, ...] | None = None  # None until a site has INFO
        self._columns |= {name: _Column(folder / f"{name}.npy", kind) for name, kind in _BLOCKS.items()}
        for name in _BLOCKS:
            self._columns[name].append(np.zeros(1))
        self._digest = PanelDigest(region, samples, haploid)

    @property
    def n_sites(self) -> int:
        return self._n_sites

    def append(
        self,
        sites: Sites,
        packed: npt.NDArray[np.uint8],
        cm: npt.NDArray[np.float64],
        allele_count: npt.NDArray[np.int64],
    ) -> None:
        """Adds the next sites; ``packed`` as in ``SiteBlocks.of``, other arrays as in ``Panel``."""
        self._n_sites += len(sites)
        self._cut(packed, last=False)
        values = {"pos": sites.pos, "continues": sites.continues, "cm": cm, "allele_count": allele_count}
        for name, array in values.items():
            self._columns[name].append(array)
        for name in TEXTS:
            self._columns[name].append(pack_text(getattr(sites, name)))
        self._add_info(sites)
        self._digest.update(sites, packed)

    def _add_info(self, sites: Sites) -> None:
        info = sites.info or RecordInfo(np.full(len(sites), "", dtype=object), ())
        self._columns["info"].append(pack_text(info.texts))
        if sites.info is not None:
            self._info_header = joined_lines([self._info_header or (), info.header])

    def _cut(self, packed: npt.NDArray[np.uint8], *, last: bool) -> None:
        """Writes the blocks that the sites left over and ``packed`` fill, or all of them if these are the ``last``."""
        waiting = np.concatenate([self._left, packed])
        first_site, first_row = self._columns["first_site"], self._columns["first_row"]
        start = 0
        for n_sites, rows, number in cut_blocks(waiting, self._n_haplotypes, last=last):
            start += n_sites
            self._rows.append(rows)
            self._numbers.append(number[None])
            first_row.append(np.array([self._rows.length]))
            first_site.append(np.array([self._n_sites - len(waiting) + start]))
        self._left = waiting[start:]

    def close(self) -> str:
        """Completes the files and returns the panel's digest."""
        self._cut(self._left[:0], last=True)
        self._rows.close()
        self._numbers.close()
        if self._info_header is None:
            for name in INFO:
                self._columns.pop(name).remove()
        else:
            self._columns["info_header"].append(pack_text(np.array(self._info_header, dtype=object)))
        with zipfile.ZipFile(self._folder / SITES, "w") as archive:
            for name, column in self._columns.items():
                column.close()
                # ZipInfo's default date is constant: the same panel gives the same bytes.
                with (
                    column.path.open("rb") as source,
                    archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as target,
                ):
                    shutil.copyfileobj(source, target)
                column.path.unlink()
        return self._digest.hexdigest()


class PanelDigest:
    """The identity of a panel: sha256 over region, samples, positions, alleles, END and haplotypes.

    It depends neither on the folder nor on the blocks in which the panel was read.
    """

    def __init__(self, region: Region, samples: Sequence[str], haploid: Sequence[int]) -> None:
        head = "\n".join([str(region), ",".join(map(str, haploid)), *samples]).encode()
        # One hash for each part, so that the same bytes divided differently among the parts give another digest.
        self._parts = (hashlib.sha256(head), hashlib.sha256(), hashlib.sha256(), hashlib.sha256())

    def update(self, sites: Sites, packed: npt.NDArray[np.uint8]) -> None:
        """Adds the next sites; ``packed`` as in ``SiteBlocks.of``."""
        _, pos, alleles, haplotypes = self._parts
        pos.update(np.ascontiguousarray(sites.pos, dtype="<i4").tobytes())
        lines = [f"{ref}\t{alt}\n" for ref, alt in zip(sites.ref, sites.alt, strict=True)]
        for site, end in enumerate(sites.end.tolist() if sites.info is not None else ()):
            if end:
                lines[site] = f"{lines[site][:-1]}\t{end}\n"
        alleles.update("".join(lines).encode())
        haplotypes.update(np.ascontiguousarray(packed).data)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(part.digest() for part in self._parts)).hexdigest()


def region_folder(number: int) -> str:
    """Name of the folder of panel ``number`` (from 0) in a store of several panels."""
    return f"{number:02d}"


def row_bytes(n_haplotypes: int) -> int:
    """Bytes of one site's alleles, one bit each."""
    return (n_haplotypes + 7) // 8


def pack_info(sites: Sites) -> dict[str, npt.NDArray[np.uint8]]:
    """The columns INFO of sites; none if no site has any."""
    if sites.info is None:
        return {}
    columns = (sites.info.texts, np.array(sites.info.header, dtype=object))
    return dict(zip(INFO, map(pack_text, columns), strict=True))


def unpack_info(columns: Mapping[str, npt.NDArray[np.uint8]]) -> RecordInfo | None:
    """The INFO that ``pack_info`` packed; None where ``columns`` lack it."""
    if not all(name in columns for name in INFO):
        return None
    texts, header = (unpack_text(columns[name]) for name in INFO)
    return RecordInfo(texts, tuple(header.tolist()))


def pack_text(values: npt.NDArray[np.object_]) -> npt.NDArray[np.uint8]:
    """Strings as UTF-8 bytes, each ended by a newline. A fixed-width array would be huge for one long deletion."""
    return np.frombuffer("".join(f"{value}\n" for value in values).encode(), dtype=np.uint8)


def unpack_text(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
    """The strings that ``pack_text`` packed."""
    return np.array(data.tobytes().decode().split("\n")[:-1], dtype=object)


class _Column:
    """An array in NumPy's file format, written row by row."""

    def __init__(self, path: Path, kind: str, row: tuple[int, ...] = ()) -> None:
        self.path = path
        self.length = 0
        self._kind, self._row = kind, row
        self._handle = path.open("wb")
        self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        self._handle.write(np.ascontiguousarray(rows, dtype=self._kind).data)
        self.length += len(rows)

    def close(self) -> None:
        # NumPy pads the header so that the first dimension can grow: the new header has the same length.
        self._handle.seek(0)
        self._write_header()
        self._handle.close()

    def remove(self) -> None:
        self._handle.close()
        self.path.unlink()

    def _write_header(self) -> None:
        header = {"descr": self._kind, "fortran_order": False, "shape": (self.length, *self._row)}
        np.lib.format.write_array_header_1_0(self._handle, header)
