"""Writes imputed genotypes as VCF, VCF.gz with a tabix index, or BCF with a CSI index.

Records are formatted in blocks (``record_formatter``), and threads compress the blocks while the next window is
imputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from vcfbert.artifacts import atomic_file, remove_indexes
from vcfbert.errors import InputError
from vcfbert.genotypes import bgzf
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.record_formatter import RecordBytes, RecordFormatter, joined_sites
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_header import DEFAULT_FIELDS, bcf_header, contigs, header_text, kept_lines

# The records of each chromosome, in the file's order.
Chromosomes = Iterable[tuple[str, Iterator[RecordBytes]]]

SUFFIXES: Final = (".vcf.gz", ".vcf", ".bcf")


@dataclass(frozen=True)
class ImputedPanel:
    """The imputed blocks of one panel. ``blocks`` cover consecutive sites, in order.

    ``ids`` and ``swapped`` have the length of the panel's sites. ``ids`` are the input's IDs, None or '.' where it has
    none. ``swapped`` is True where the input has REF and ALT exchanged; such a record is written as in the input.
    ``haploid`` [n_samples] is True for haploid samples, whose first haplotype is written as a call of one allele.
    ``summary`` counts every site.
    """

    panel: Panel
    blocks: Iterable[ImputedBlock]
    ids: npt.NDArray[np.object_] | None = None
    swapped: npt.NDArray[np.bool_] | None = None
    haploid: npt.NDArray[np.bool_] | None = None
    summary: Summary | None = None


def write_imputed(
    path: Path,
    parts: Sequence[ImputedPanel],
    *,
    samples: Sequence[str],
    header: Mapping[str, str],
    fields: Sequence[str] = DEFAULT_FIELDS,
    min_dr2: float = 0.0,
    threads: int = 2,
    kept: bool = True,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes panels, in order, to ``path``, which ends in .vcf.gz (indexed), .vcf or .bcf (indexed).

    ``samples`` are the names of the samples of all blocks. Each entry of ``header`` becomes a line
    ``##vcfbert_KEY=VALUE``. ``fields`` are the fields of FORMAT, out of ``vcf_header.FIELDS``. A record is excluded if
    no sample was typed there and each of its DR2 is below ``min_dr2``. ``threads`` (at least 1) compress. A file that
    is not ``kept`` is read at once and then removed; it gets no index. ``progress`` is called with the number of sites
    written so far.

    File and index get their names when they are complete. Raises InputError for a name with another ending, for a path
    that cannot be written, and for a position that exceeds the index; ResourceError if the disk is full.
    """
    check_suffix(path)
    panels = [part.panel for part in parts]
    head = header_text(panels, samples, header, fields)
    numbers = {chrom: number for number, chrom in enumerate(contigs(panels))} if is_bcf(path) else {}
    n_sites = 0

    def written(more: int) -> None:
        nonlocal n_sites
        n_sites += more
        if progress is not None:
            progress(n_sites)

    def records(part: ImputedPanel) -> Iterator[RecordBytes]:
        contig = numbers.get(part.panel.region.chrom)
        return formatted(part, fields=fields, min_dr2=min_dr2, contig=contig, kept=kept_lines(panels), written=written)

    # The regions of one chromosome are consecutive.
    chromosomes = (
        (name, chain.from_iterable(map(records, group)))
        for name, group in groupby(parts, key=lambda part: part.panel.region.chrom)
    )
    content = _Formatted(bcf_header(head) if is_bcf(path) else head, chromosomes, threads)
    if kept:
        save(path, content, panels)
    else:
        _save_unindexed(path, content)


def is_bcf(path: Path) -> bool:
    """Whether the ending is that of a BCF."""
    return path.name.endswith(".bcf")


def check_suffix(path: Path) -> None:
    """Raises InputError('output_format') if the name has none of the endings that can be written."""
    if not path.name.endswith(SUFFIXES):
        raise InputError(
            "output_format",
            "unknown output format",
            where=str(path),
            hint=f"use {', '.join(SUFFIXES)}",
        )


def formatted(
    part: ImputedPanel,
    *,
    fields: Sequence[str] = DEFAULT_FIELDS,
    min_dr2: float = 0.0,
    contig: int | None = None,
    kept: Sequence[str] = (),
    written: Callable[[int], None] | None = None,
) -> Iterator[RecordBytes]:
    """The records of one panel's blocks; see ``write_imputed``.

    ``contig``: the number of the chromosome in the header of a BCF; records are text if it is None. ``kept``: the
    header's lines of kept INFO, which number its fields in a BCF (``vcf_header.kept_lines``). ``written`` is called
    with the number of sites of each block when its records are done.
    """
    panel = part.panel
    exchanged = np.zeros(panel.n_sites, dtype=bool) if part.swapped is None else part.swapped
    joined = joined_sites(panel, exchanged)
    formatter = RecordFormatter(
        panel,
        ids=part.ids,
        swapped=exchanged,
        joined=joined,
        haploid=part.haploid,
        fields=fields,
        min_dr2=min_dr2,
        summary=part.summary,
        contig=contig,
        kept=kept,
    )
    for block in whole_records(part.blocks, joined):
        yield from formatter.records(block)
        if written is not None:
            written(block.stop - block.start)


def whole_records(blocks: Iterable[ImputedBlock], joined: npt.NDArray[np.bool_]) -> Iterator[ImputedBlock]:
    """The same sites in new blocks, so that no multiallelic record (``joined`` [n_sites]) is in two blocks.

    Raises ValueError if the blocks are not consecutive.
    """
    held: ImputedBlock | None = None  # first sites of a record that continues in the next block
    expected: int | None = None
    for block in blocks:
        if expected not in (None, block.start):
            raise ValueError(
                f"blocks are not consecutive: one starts at site {block.start}, the one before ends at {expected}"
            )
        expected = block.stop
        goes_on = block.stop < len(joined) and bool(joined[block.stop])
        starts = np.flatnonzero(~joined[block.start : block.stop])  # first sites of records, within the block
        n_sites = block.stop - block.start
        first = 0
        if held is not None:
            first = int(starts[0]) if len(starts) else n_sites
            held = _concatenated(held, block.rows(0, first))
            if first == n_sites and goes_on:
                continue
            yield held
            held = None
        last = n_sites
        if goes_on:
            last = max(int(starts[-1]) if len(starts) else 0, first)
            held = block.rows(last, n_sites)
        if first < last:
            yield block.rows(first, last)
    if held is not None:
        yield held


def _concatenated(first: ImputedBlock, second: ImputedBlock) -> ImputedBlock:
    """Both blocks as one, without genotype probabilities, which multiallelic records do not use."""
    hds = np.concatenate([first.haplotype_dosage, second.haplotype_dosage])
    calls = np.concatenate([first.calls, second.calls])
    loo_dosage = None
    if first.loo_dosage is not None and second.loo_dosage is not None:
        loo_dosage = np.concatenate([first.loo_dosage, second.loo_dosage])
    return ImputedBlock(first.start, second.stop, hds, calls, loo_dosage=loo_dosage)


class Content(Protocol):
    """The header and records of a file, text or BCF, to be written once by one of the two methods."""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file before compression."""

    def write_bgzf(self, handle: BinaryIO) -> list[bgzf.RecordOffsets]:
        """Writes the file as BGZF and returns where its records are."""


@dataclass(frozen=True)
class _Formatted:
    head: bytes
    chromosomes: Chromosomes
    threads: int

    def pieces(self) -> Iterator[bytes | memoryview]:
        yield self.head
        for _, blocks in self.chromosomes:
            yield from (block.data for block in blocks)

    def write_bgzf(self, handle: BinaryIO) -> list[bgzf.RecordOffsets]:
        return write_records(handle, self.head, self.chromosomes, self.threads)


def save(path: Path, content: Content, panels: Sequence[Panel]) -> None:
    """Writes the records of the panels' sites to ``path``, with the index that its ending asks for; see
    ``write_imputed``."""
    if path.name.endswith(".vcf"):
        with atomic_file(path) as temporary, temporary.open("wb") as handle:
            handle.writelines(content.pieces())
        return
    if not is_bcf(path):
        _check_positions(path, panels)
    ending = ".csi" if is_bcf(path) else ".tbi"
    indexed = False
    try:
        with atomic_file(path) as temporary:
            with temporary.open("wb") as handle:
                offsets = content.write_bgzf(handle)
            # The index gets its name first, so that a complete file always has one.
            with atomic_file(path.with_name(f"{path.name}{ending}")) as temporary_index:
                temporary_index.write_bytes(bgzf.csi_index(offsets) if is_bcf(path) else bgzf.tabix_index(offsets))
            indexed = True
            remove_indexes(path, but=ending)
    except BaseException:
        if indexed:  # a file that was there before must not have this index
            remove_indexes(path)
        raise


def _save_unindexed(path: Path, content: _Formatted) -> None:
    with atomic_file(path, kept=False) as temporary, temporary.open("wb") as handle:
        if path.name.endswith(".vcf"):
            handle.writelines(content.pieces())
            return
        with bgzf.BgzfWriter(handle, threads=content.threads) as writer:
            for piece in content.pieces():
                writer.write(piece)


def _check_positions(path: Path, panels: Sequence[Panel]) -> None:
    last = max((int(panel.sites.pos[-1]) for panel in panels if panel.n_sites), default=0)
    if last >= bgzf.MAX_TABIX_POSITION:
        raise InputError(
            "position_too_large",
            f"position {last} exceeds {bgzf.MAX_TABIX_POSITION}, the largest that a tabix index can hold",
            where=str(path),
            hint="write a .bcf file",
        )


def write_records(handle: BinaryIO, head: bytes, chromosomes: Chromosomes, threads: int) -> list[bgzf.RecordOffsets]:
    """Writes ``head`` and the records of each chromosome, sorted by position, as BGZF. Returns their offsets."""
    written: list[tuple[str, list[RecordBytes], list[int]]] = []
    place = len(head)
    with bgzf.BgzfWriter(handle, threads=threads) as writer:
        writer.write(head)
        for chrom, blocks in chromosomes:
            kept: list[RecordBytes] = []
            begins = [place]
            for block in blocks:
                writer.write(block.data)
                kept.append(block._replace(data=b""))
                place += len(block.data)
                begins.append(place)
            written.append((chrom, kept, begins))
    none = np.empty(0, dtype=np.int64)
    offsets_of = []
    for chrom, kept, begins in written:
        start, stop = (np.concatenate([none, *(getattr(block, name) for block in kept)]) for name in ("start", "stop"))
        ends = [block.ends + begin for block, begin in zip(kept, begins, strict=False)]
        offsets = writer.virtual_offsets(np.concatenate([begins[:1], *ends]))
        offsets_of.append(bgzf.RecordOffsets(chrom, start, stop, offsets))
    return offsets_of
