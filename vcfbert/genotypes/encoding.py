"""The encoded panel: its windows, and which memory haplotypes are alike within each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_folder, read_manifest
from vcfbert.config import EncodeConfig, build
from vcfbert.constants import ENCODING_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.windows import Window, tile
from vcfbert.provenance import provenance


@dataclass(frozen=True)
class Encoding:
    """``distinct`` int32 [n_windows, n_haplotypes]: haplotypes with one number have the same row in that window;
    numbers run from 0 in order of first appearance."""

    config: EncodeConfig
    windows: list[Window]
    distinct: npt.NDArray[np.int32]
    panel_digest: str

    @property
    def n_distinct(self) -> npt.NDArray[np.int64]:
        """[n_windows]: how many different rows each window has."""
        return self.distinct.max(axis=1).astype(np.int64) + 1


def windows_of(panel: Panel, config: EncodeConfig) -> list[Window]:
    return tile(panel.cm, length=config.window, flank=config.flank, span_cm=config.span_cm)


def encode(panel: Panel, config: EncodeConfig) -> Encoding:
    windows = windows_of(panel, config)
    distinct = np.stack([_number_rows(np.packbits(panel.alleles(w.sites), axis=1)) for w in windows])
    return Encoding(config, windows, distinct, panel.digest)


def _number_rows(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """The number of each row's value, in order of first appearance."""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def save_encoding(encoding: Encoding, panel: Panel, out: Path) -> None:
    """Writes ``windows.npy`` int64 [n_windows, 6] (core, window and span intervals), ``distinct.npy`` and
    ``rows.npy``: the bit-packed distinct rows of all windows, one window after the other."""
    table = np.array([[*w.core, w.start, w.stop, *w.span] for w in encoding.windows], dtype=np.int64)
    manifest = {
        "panel_digest": encoding.panel_digest,
        "config": asdict(encoding.config),
        "n_distinct": encoding.n_distinct.tolist(),
        "provenance": provenance(),
    }
    with atomic_folder(out, kind="encoding", version=ENCODING_FORMAT, manifest=manifest) as folder:
        np.save(folder / "windows.npy", table)
        np.save(folder / "distinct.npy", encoding.distinct)
        np.save(folder / "rows.npy", np.concatenate(list(_distinct_rows(encoding, panel))))


def _distinct_rows(encoding: Encoding, panel: Panel) -> list[npt.NDArray[np.uint8]]:
    rows = []
    for window, numbers in zip(encoding.windows, encoding.distinct, strict=True):
        _, first = np.unique(numbers, return_index=True)
        rows.append(np.packbits(panel.alleles(window.sites)[first], axis=1))
    return rows


def open_encoding(path: Path, panel: Panel) -> Encoding:
    """Reads an encoding of ``panel``. Raises ArtifactError if it is of another panel."""
    manifest = read_manifest(path, kind="encoding", version=ENCODING_FORMAT)
    if manifest["panel_digest"] != panel.digest:
        raise ArtifactError("encoding_panel", "was made from another panel", where=str(path), hint="run `encode` again")
    table = np.load(path / "windows.npy").tolist()
    windows = [Window(i, (a, b), c, d, (e, f)) for i, (a, b, c, d, e, f) in enumerate(table)]
    distinct = np.load(path / "distinct.npy")
    return Encoding(build(EncodeConfig, manifest["config"], "encode."), windows, distinct, panel.digest)
