"""Parts of an imputed file, written by different processes and joined without recompressing their BGZF blocks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from vcfbert.artifacts import atomic_file
from vcfbert.distributed.tensors import Array, Tensors, write_tensors
from vcfbert.genotypes import bgzf
from vcfbert.genotypes.record_formatter import RecordBytes
from vcfbert.genotypes.vcf_writer import write_records

_OFFSET_FIELDS: Final = ("start", "stop", "offsets")  # fields of ``bgzf.RecordOffsets``


@dataclass(frozen=True)
class Part:
    """Consecutive records without a header. ``path`` holds their bytes, ``offsets_path`` where each begins."""

    path: Path

    @property
    def offsets_path(self) -> Path:
        """Written last: if this file exists, the part is complete."""
        return self.path.with_name(f"{self.path.name}.places")


def write_part(part: Part, chrom: str, records: Iterator[RecordBytes], *, meta: dict[str, Any], threads: int) -> None:
    """Writes a part of one chromosome. ``meta`` is stored with it and may be filled while ``records`` is consumed."""
    with atomic_file(part.path) as temporary, temporary.open("wb") as handle:
        (record_offsets,) = write_records(handle, b"", [(chrom, records)], threads)
    write_tensors(part.offsets_path, {name: getattr(record_offsets, name) for name in _OFFSET_FIELDS}, meta)


@dataclass(frozen=True)
class Stitched:
    """The records of consecutive parts, by chromosome in the order of the file. Implements ``vcf_writer.Content``."""

    head: bytes
    chromosomes: Sequence[tuple[str, Sequence[Part]]]

    def pieces(self) -> Iterator[bytes]:
        yield self.head
        for _, parts in self.chromosomes:
            for part in parts:
                with part.path.open("rb") as handle:
                    yield from bgzf.read_blocks(handle)

    def write_bgzf(self, handle: BinaryIO) -> list[bgzf.RecordOffsets]:
        head = bgzf.compress(self.head).removesuffix(bgzf.EOF_BLOCK)
        handle.write(head)
        position = len(head)
        of_chromosomes = []
        for chrom, parts in self.chromosomes:
            found: list[tuple[Array, ...]] = []
            for part in parts:
                stored = Tensors(part.offsets_path)
                start, stop, offsets = (stored[name] for name in _OFFSET_FIELDS)
                found.append((start, stop, offsets[:-1] + (position << 16)))
                position += _append(handle, part.path)
            start, stop, offsets = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            of_chromosomes.append(bgzf.RecordOffsets(chrom, start, stop, np.append(offsets, position << 16)))
        handle.write(bgzf.EOF_BLOCK)
        return of_chromosomes


def _append(handle: BinaryIO, path: Path) -> int:
    """Appends a BGZF file without its end-of-file block. Returns the number of bytes."""
    begin = handle.tell()
    with path.open("rb") as source:
        shutil.copyfileobj(source, handle, 1 << 20)
    handle.seek(-len(bgzf.EOF_BLOCK), 1)
    handle.truncate()
    return handle.tell() - begin
