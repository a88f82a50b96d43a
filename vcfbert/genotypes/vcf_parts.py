"""An imputed file written in parts, by different processes, and stitched: BGZF blocks follow each other as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vcfbert.artifacts import atomic_file
from vcfbert.genotypes import bgzf
from vcfbert.genotypes.vcf_lines import Line
from vcfbert.genotypes.vcf_writer import Places, write_lines
from vcfbert.tensors import Tensors, write_tensors


@dataclass(frozen=True)
class Part:
    """Consecutive records without a header: their text in ``path``, where they are in it in ``places``."""

    path: Path

    @property
    def places(self) -> Path:
        """Written last: where it stands, the part is whole."""
        return self.path.with_name(f"{self.path.name}.places")


def write_part(part: Part, lines: Iterator[Line], *, meta: dict[str, Any], threads: int) -> None:
    """Writes a part; ``meta`` is filled while its lines are taken, and kept with it."""
    with atomic_file(part.path) as temporary, temporary.open("wb") as handle:
        places = write_lines(handle, b"", lines, threads)
    write_tensors(part.places, places._asdict(), meta)


@dataclass(frozen=True)
class Stitched:
    """The ``Records`` of parts that follow each other on one chromosome."""

    head: bytes
    parts: Sequence[Part]
    chrom: str

    def text(self) -> Iterator[bytes]:
        yield self.head
        for part in self.parts:
            with part.path.open("rb") as handle:
                yield from bgzf.read_blocks(handle)

    def write_bgzf(self, handle: BinaryIO) -> bytes:
        head = bgzf.compress(self.head).removesuffix(bgzf.EOF_BLOCK)
        handle.write(head)
        position = len(head)
        found: list[Places] = []
        for part in self.parts:
            stored = Tensors(part.places)
            start, stop, offsets = (stored[name] for name in Places._fields)
            found.append(Places(start, stop, offsets + (position << 16)))
            position += _append(handle, part.path)
        handle.write(bgzf.EOF_BLOCK)
        return bgzf.tabix_index(
            self.chrom,
            np.concatenate([places.start for places in found]),
            np.concatenate([places.stop for places in found]),
            np.concatenate([*(places.offsets[:-1] for places in found), np.array([position << 16])]),
        )


def _append(handle: BinaryIO, path: Path) -> int:
    """Copies a BGZF file but for the block that ends it; the bytes copied."""
    begin = handle.tell()
    with path.open("rb") as source:
        shutil.copyfileobj(source, handle, 1 << 20)
    handle.seek(-len(bgzf.EOF_BLOCK), 1)
    handle.truncate()
    return handle.tell() - begin
