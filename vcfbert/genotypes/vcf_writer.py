"""Writes imputed genotypes as VCF, VCF.gz with a tabix index, or BCF with a CSI index.

Records are formatted as text (``vcf_lines``), and threads compress the text to BGZF blocks. htslib converts the text to
BCF, because it parses the text of a sample faster than Python can set its fields.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt
import pysam

import vcfbert
from vcfbert.artifacts import atomic_file
from vcfbert.errors import InputError
from vcfbert.genotypes import bgzf
from vcfbert.genotypes.imputed import ImputedBlock
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.summary import Summary
from vcfbert.genotypes.vcf_lines import Line, LineFormatter, joined_sites
from vcfbert.genotypes.vcf_texts import DEFAULT_FIELDS, chosen_fields

# The lines of each chromosome, in the file's order.
Chromosomes = Iterable[tuple[str, Iterator[Line]]]

SUFFIXES: Final = (".vcf.gz", ".vcf", ".bcf")

_META: Final = (
    '##FILTER=<ID=PASS,Description="All filters passed">',
    '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency of the ALT allele in the imputed dosages">',
    '##INFO=<ID=MAF,Number=1,Type=Float,Description="Frequency of the second most common allele in the dosages">',
    '##INFO=<ID=DR2,Number=A,Type=Float,Description="Estimated squared correlation of imputed and true dosage">',
    '##INFO=<ID=ER2,Number=A,Type=Float,Description="Squared correlation of the typed alleles with what was imputed '
    'without them">',
    '##INFO=<ID=IMP,Number=0,Type=Flag,Description="Imputed: no sample was typed here in the input">',
    '##INFO=<ID=TYPED,Number=0,Type=Flag,Description="Typed in the input for at least one sample">',
)
_FORMATS: Final = {
    "GT": 'Number=1,Type=String,Description="Genotype: the most probable allele of each haplotype"',
    "DS": 'Number=A,Type=Float,Description="Expected number of ALT alleles, the sum of HDS"',
    "HDS": 'Number=.,Type=Float,Description="Probability of each ALT allele on the first haplotype, then on the '
    'second"',
    "GP": 'Number=G,Type=Float,Description="Probabilities of the genotypes"',
    "GQ": 'Number=1,Type=Integer,Description="Phred-scaled probability that the genotype of GT is wrong, . where it is '
    "the input's own\"",
}
_COLUMNS: Final = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")


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
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes panels, in order, to ``path``, which ends in .vcf.gz (indexed), .vcf or .bcf (indexed).

    ``samples`` are the names of the samples of all blocks. Each entry of ``header`` becomes a line
    ``##vcfbert_KEY=VALUE``. ``fields`` are the fields of FORMAT, out of ``vcf_texts.FIELDS``. A record is excluded if
    no sample was typed there and each of its DR2 is below ``min_dr2``. ``threads`` (at least 1) compress. ``progress``
    is called with the number of sites written so far.

    File and index get their names when they are complete. Raises InputError for a name with another ending, for a path
    that cannot be written, and for a position that exceeds the index; ResourceError if the disk is full.
    """
    check_suffix(path)
    head = header_text([part.panel for part in parts], samples, header, fields)
    n_sites = 0

    def written(more: int) -> None:
        nonlocal n_sites
        n_sites += more
        if progress is not None:
            progress(n_sites)

    def lines(part: ImputedPanel) -> Iterator[Line]:
        return record_lines(part, fields=fields, min_dr2=min_dr2, written=written)

    # The regions of one chromosome are consecutive.
    chromosomes = (
        (name, chain.from_iterable(map(lines, group)))
        for name, group in groupby(parts, key=lambda part: part.panel.region.chrom)
    )
    save_records(path, _Lines(head, chromosomes, threads), [part.panel for part in parts], threads)


def check_suffix(path: Path) -> None:
    """Raises InputError('output_format') if the name has none of the endings that can be written."""
    if not path.name.endswith(SUFFIXES):
        raise InputError(
            "output_format",
            "unknown output format",
            where=str(path),
            hint=f"use {', '.join(SUFFIXES)}",
        )


def record_lines(
    part: ImputedPanel,
    *,
    fields: Sequence[str] = DEFAULT_FIELDS,
    min_dr2: float = 0.0,
    written: Callable[[int], None] | None = None,
) -> Iterator[Line]:
    """The records of one panel's blocks; see ``write_imputed``.

    No multiallelic record may cross the ends of the blocks. ``written`` is called with the number of sites of each
    block when its records are done.
    """
    panel = part.panel
    exchanged = np.zeros(panel.n_sites, dtype=bool) if part.swapped is None else part.swapped
    joined = joined_sites(panel, exchanged)
    formatter = LineFormatter(
        panel,
        ids=part.ids,
        swapped=exchanged,
        joined=joined,
        haploid=part.haploid,
        fields=fields,
        min_dr2=min_dr2,
        summary=part.summary,
    )
    for block in whole_records(part.blocks, joined):
        yield from formatter.lines(block)
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


def header_text(
    panels: Sequence[Panel], samples: Sequence[str], extra: Mapping[str, str], fields: Sequence[str]
) -> bytes:
    """The header of an imputed file, with one ``##vcfbert_KEY=VALUE`` line for each of ``extra``."""
    chroms = dict.fromkeys(panel.region.chrom for panel in panels)
    own = [f"##vcfbert_{key}={' '.join(str(value).split())}" for key, value in extra.items()]
    lines = [
        "##fileformat=VCFv4.3",
        f"##source=vcfbert {vcfbert.__version__}",
        *(f"##contig=<ID={chrom}>" for chrom in chroms),
        *_META,
        *(f"##FORMAT=<ID={name},{_FORMATS[name]}>" for name in chosen_fields(fields)),
        *own,
        "\t".join([*_COLUMNS, *samples]),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


class Records(Protocol):
    """The header and records of a file, to be written once by one of the two methods."""

    def text(self) -> Iterator[bytes]:
        """The text of the file, in pieces."""

    def write_bgzf(self, handle: BinaryIO) -> bytes:
        """Writes the text as BGZF and returns the bytes of its tabix index."""


@dataclass(frozen=True)
class _Lines:
    head: bytes
    chromosomes: Chromosomes
    threads: int

    def text(self) -> Iterator[bytes]:
        yield self.head
        for _, lines in self.chromosomes:
            yield from (line.text for line in lines)

    def write_bgzf(self, handle: BinaryIO) -> bytes:
        return write_indexed(handle, self.head, self.chromosomes, self.threads)


def save_records(path: Path, records: Records, panels: Sequence[Panel], threads: int) -> None:
    """Writes ``records`` of the panels' sites to ``path`` in the format of its ending, with the index."""
    if path.name.endswith(".vcf"):
        with atomic_file(path) as temporary, temporary.open("wb") as handle:
            handle.writelines(records.text())
    elif path.name.endswith(".bcf"):
        _save_bcf(path, records, threads)
    else:
        _save_bgzipped(path, records, panels)


def _save_bgzipped(path: Path, records: Records, panels: Sequence[Panel]) -> None:
    last = max((int(panel.sites.pos[-1]) for panel in panels if panel.n_sites), default=0)
    if last >= bgzf.MAX_TABIX_POSITION:
        raise InputError(
            "position_too_large",
            f"position {last} exceeds {bgzf.MAX_TABIX_POSITION}, the largest that a tabix index can hold",
            where=str(path),
            hint="write a .bcf file",
        )
    with atomic_file(path) as temporary:
        with temporary.open("wb") as handle:
            index = records.write_bgzf(handle)
        # The index gets its name first, so that a complete file always has one.
        with atomic_file(path.with_name(f"{path.name}.tbi")) as temporary_index:
            temporary_index.write_bytes(index)


def write_indexed(handle: BinaryIO, head: bytes, chromosomes: Chromosomes, threads: int) -> bytes:
    """Writes ``head`` and the lines of each chromosome, sorted by position, as BGZF into ``handle``.

    Returns the bytes of the file's tabix index.
    """
    return bgzf.tabix_index(write_lines(handle, head, chromosomes, threads))


def write_lines(handle: BinaryIO, head: bytes, chromosomes: Chromosomes, threads: int) -> list[bgzf.RecordOffsets]:
    """As ``write_indexed``; returns the offsets of the records."""
    spans: list[tuple[str, npt.NDArray[np.int64]]] = []  # [records, 3]: start, stop and length of its line
    with bgzf.BgzfWriter(handle, threads=threads) as writer:
        writer.write(head)
        for chrom, lines in chromosomes:
            intervals = []
            for line in lines:
                writer.write(line.text)
                intervals.append((line.start, line.stop, len(line.text)))
            spans.append((chrom, np.array(intervals, dtype=np.int64).reshape(-1, 3)))
    offsets_of, begin = [], len(head)
    for chrom, span in spans:
        start, stop, length = span.T
        offsets = begin + np.concatenate([[0], np.cumsum(length)])
        offsets_of.append(bgzf.RecordOffsets(chrom, start, stop, writer.virtual_offsets(offsets)))
        begin = int(offsets[-1])
    return offsets_of


def _save_bcf(path: Path, records: Records, threads: int) -> None:
    with (
        atomic_file(path) as temporary,
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        text = Path(folder) / "text.vcf.gz"
        with text.open("wb") as handle:
            index = records.write_bgzf(handle)
        text.with_name(f"{text.name}.tbi").write_bytes(index)  # htslib warns on stderr about a VCF.gz without one
        with (
            pysam.VariantFile(str(text), threads=threads) as source,
            pysam.VariantFile(str(temporary), "wb", header=source.header, threads=threads) as target,
        ):
            for record in source:
                target.write(record)
        with atomic_file(path.with_name(f"{path.name}.csi")) as temporary_index:
            # The preset is missing from pysam's type stub.
            pysam.tabix_index(
                str(temporary),
                force=True,
                preset="bcf",  # type: ignore[arg-type]
                csi=True,
                index=str(temporary_index),
            )
