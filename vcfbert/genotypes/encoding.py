"""The encoded panel: its windows, and which haplotypes are equal within each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_folder, provenance, read_manifest
from vcfbert.constants import ENCODING_FORMAT
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.windows import Window, tile

if TYPE_CHECKING:
    from vcfbert.config import EncodeConfig


@dataclass(frozen=True)
class WindowRows:
    """The distinct haplotypes of one window."""

    patterns: npt.NDArray[np.uint8]  # [u, l], the distinct rows of alleles
    number: npt.NDArray[np.int64]  # [n_haplotypes], each haplotype's row of ``patterns``


def distinct_rows(alleles: npt.NDArray[np.uint8]) -> WindowRows:
    """The distinct rows of ``alleles`` uint8 [n, l], in order of first appearance."""
    packed = np.packbits(alleles, axis=1)
    _, first, inverse = np.unique(_hashed(packed), return_index=True, return_inverse=True)
    if not np.array_equal(packed[first[inverse]], packed):  # different rows share a hash, which is very rare
        _, first, inverse = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), dtype=np.int64)
    rank[order] = np.arange(len(first))
    return WindowRows(alleles[first[order]], rank[inverse.reshape(-1)])


def _hashed(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """A hash [n] of each row of ``packed`` uint8 [n, bytes]; equal rows have equal hashes."""
    n, width = packed.shape
    words = np.zeros((n, -(-width // 8) * 8), dtype=np.uint8)
    words[:, :width] = packed
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1] // 8, dtype=np.uint64) * 2 + 1
    return np.asarray((words.view(np.uint64) * factors).sum(axis=1, dtype=np.uint64))


@dataclass(frozen=True)
class Encoding:
    """The windows of a panel and their distinct rows."""

    config: EncodeConfig
    windows: list[Window]
    packed: npt.NDArray[np.uint8]  # [sum of u, ceil(l / 8)], the distinct rows of all windows, window after window
    offset: npt.NDArray[np.int64]  # [n_windows + 1], where the rows of each window begin
    number: npt.NDArray[np.int32]  # [n_windows, n_haplotypes], as in ``WindowRows``
    panel_digest: str

    @property
    def n_distinct(self) -> npt.NDArray[np.int64]:
        """[n_windows]: the number of distinct rows of each window."""
        return np.diff(self.offset)

    def rows(self, window: Window, haplotypes: npt.NDArray[np.int64]) -> WindowRows:
        """The distinct rows of a window, with ``number`` [n] for the given panel ``haplotypes`` int64 [n]."""
        packed = self.packed[self.offset[window.index] : self.offset[window.index + 1]]
        patterns = np.unpackbits(packed, axis=1, count=window.stop - window.start)
        return WindowRows(patterns, self.number[window.index, haplotypes].astype(np.int64))


def windows_of(panel: Panel, config: EncodeConfig) -> list[Window]:
    """The windows of V17 and V18."""
    return tile(panel.cm, length=config.window, flank=config.flank, span_cm=config.span_cm)


def hmm_windows(panel: Panel, length: int, span_cm: float) -> list[Window]:
    """The windows of V19: of at most ``length`` sites, and typed sites up to ``span_cm`` around them are used.

    They are wide and have no flanks, because an HMM reads the typed sites of the whole retrieval window. There are as
    few as possible, of equal width, because sites in two windows are predicted twice.
    """
    count = math.ceil(panel.n_sites / length)
    return tile(panel.cm, length=math.ceil(panel.n_sites / count), flank=0, span_cm=span_cm)


def encode(panel: Panel, config: EncodeConfig) -> Encoding:
    """Cuts the panel into windows and finds the distinct rows of each."""
    windows = windows_of(panel, config)
    rows = [distinct_rows(panel.alleles(window.sites)) for window in windows]
    return Encoding(
        config,
        windows,
        packed=np.concatenate([np.packbits(r.patterns, axis=1) for r in rows]),
        offset=np.cumsum([0, *(len(r.patterns) for r in rows)]),
        number=np.stack([r.number for r in rows]).astype(np.int32),
        panel_digest=panel.digest,
    )


def save_encodings(encodings: Sequence[Encoding], out: Path) -> None:
    """Writes the encodings of a store's panels, in order, one folder each.

    A folder has ``windows.npy`` int64 [n_windows, 6] (intervals of core, window and retrieval window) and the arrays
    of ``Encoding``.
    """
    manifest = {
        "panel_digests": [encoding.panel_digest for encoding in encodings],
        "config": asdict(encodings[0].config),
        "n_distinct": [encoding.n_distinct.tolist() for encoding in encodings],
        "provenance": provenance(),
    }
    with atomic_folder(out, kind="encoding", version=ENCODING_FORMAT, manifest=manifest) as folder:
        for number, encoding in enumerate(encodings):
            place = folder / region_folder(number)
            place.mkdir()
            table = np.array([[*w.core, w.start, w.stop, *w.retrieval] for w in encoding.windows], dtype=np.int64)
            np.save(place / "windows.npy", table)
            np.save(place / "rows.npy", encoding.packed)
            np.save(place / "offset.npy", encoding.offset)
            np.save(place / "number.npy", encoding.number)


def open_encodings(path: Path, panels: Sequence[Panel]) -> list[Encoding]:
    """Reads the encodings of ``panels``. Raises ArtifactError if they were made of other panels."""
    manifest = read_manifest(path, kind="encoding", version=ENCODING_FORMAT)
    if manifest["panel_digests"] != [panel.digest for panel in panels]:
        raise ArtifactError("encoding_panel", "was made from another panel", where=str(path), hint="run `encode` again")
    from vcfbert.config import EncodeConfig, build  # needs pydantic, which a bare GPU machine lacks

    config = build(EncodeConfig, manifest["config"], "encode.")
    return [_open(path / region_folder(number), panel, config) for number, panel in enumerate(panels)]


def _open(folder: Path, panel: Panel, config: EncodeConfig) -> Encoding:
    table = np.load(folder / "windows.npy").tolist()
    windows = [Window(i, (a, b), c, d, (e, f)) for i, (a, b, c, d, e, f) in enumerate(table)]
    return Encoding(
        config,
        windows,
        packed=np.load(folder / "rows.npy"),
        offset=np.load(folder / "offset.npy"),
        number=np.load(folder / "number.npy"),
        panel_digest=panel.digest,
    )
