"""Writes imputed genotypes as VCF, VCF.gz with a tabix index, or BCF with a CSI index.

The text route (``vcf_lines``) through BGZF blocks compressed by threads; BCF is converted from it by htslib, which
parses the text of a sample faster than Python can set its fields.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

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


class Places(NamedTuple):
    """Of r records in BGZF text: 0-based half-open intervals on the reference, ``start`` and ``stop`` [r], and virtual
    offsets [r + 1] of their lines and of the end of the last one."""

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


def write_imputed(
    path: Path,
    blocks: Iterable[ImputedBlock],
    *,
    panel: Panel,
    samples: Sequence[str],
    header: Mapping[str, str],
    ids: npt.NDArray[np.object_] | None = None,
    swapped: npt.NDArray[np.bool_] | None = None,
    haploid: npt.NDArray[np.bool_] | None = None,
    fields: Sequence[str] = DEFAULT_FIELDS,
    min_dr2: float = 0.0,
    summary: Summary | None = None,
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes ``blocks`` to ``path``, whose name ends in .vcf.gz (indexed), .vcf or .bcf (indexed).

    The blocks tile a stretch of the panel's sites, in order. ``samples`` names their samples. ``header``: one
    ``##vcfbert_KEY=VALUE`` line each. ``ids``, ``swapped`` [n_sites of the panel]: the input's IDs (None or '.'
    where it has none), and True where the input had REF and ALT exchanged: such a record is written as the input
    has it. ``haploid`` [n_samples]: samples of which the first haplotype is written alone, as calls of one allele.
    ``fields``: those of FORMAT, of ``vcf_texts.FIELDS``. Records whose every DR2 is less than ``min_dr2`` are left out
    unless a sample was typed there. ``summary`` is told of every site.
    ``threads`` (at least 1) compress; ``progress`` is called with the number of sites written so far.

    File and index get their names only once complete. Raises InputError for a name of another kind, where the
    path cannot be written or a position is beyond what the index can hold, ResourceError where the disk is full.
    """
    check_suffix(path)
    lines = record_lines(
        blocks,
        panel=panel,
        ids=ids,
        swapped=swapped,
        haploid=haploid,
        fields=fields,
        min_dr2=min_dr2,
        summary=summary,
        progress=progress,
    )
    head = header_text(panel.sites.chrom, samples, header, fields)
    save_records(path, _Lines(head, lines, panel.sites.chrom, threads), panel, threads)


def check_suffix(path: Path) -> None:
    """Raises InputError('output_format') for a name of another kind than can be written."""
    if not path.name.endswith(SUFFIXES):
        raise InputError("output_format", "unknown kind of output", where=str(path), hint=f"use {', '.join(SUFFIXES)}")


def record_lines(
    blocks: Iterable[ImputedBlock],
    *,
    panel: Panel,
    ids: npt.NDArray[np.object_] | None = None,
    swapped: npt.NDArray[np.bool_] | None = None,
    haploid: npt.NDArray[np.bool_] | None = None,
    fields: Sequence[str] = DEFAULT_FIELDS,
    min_dr2: float = 0.0,
    summary: Summary | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Line]:
    """The records of ``blocks``; see ``write_imputed``. No multiallelic record may begin before or end behind."""
    exchanged = np.zeros(panel.n_sites, dtype=bool) if swapped is None else swapped
    joined = joined_sites(panel, exchanged)
    formatter = LineFormatter(
        panel,
        ids=ids,
        swapped=exchanged,
        joined=joined,
        haploid=haploid,
        fields=fields,
        min_dr2=min_dr2,
        summary=summary,
    )
    return _lines(whole_records(blocks, joined), formatter, progress)


def _lines(
    blocks: Iterable[ImputedBlock], formatter: LineFormatter, progress: Callable[[int], None] | None
) -> Iterator[Line]:
    n_sites = 0
    for block in blocks:
        yield from formatter.lines(block)
        n_sites += block.stop - block.start
        if progress is not None:
            progress(n_sites)


def whole_records(blocks: Iterable[ImputedBlock], joined: npt.NDArray[np.bool_]) -> Iterator[ImputedBlock]:
    """The same sites, cut anew so that no multiallelic record (``joined`` [n_sites]) spans two blocks."""
    held: ImputedBlock | None = None  # the beginning of a record that the next block goes on with
    expected: int | None = None
    for block in blocks:
        if expected not in (None, block.start):
            raise ValueError(f"blocks do not tile the panel: site {block.start} follows {expected}")
        expected = block.stop
        goes_on = block.stop < len(joined) and bool(joined[block.stop])
        starts = np.flatnonzero(~joined[block.start : block.stop])  # of records, within the block
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
    """Both without genotype probabilities, which multiallelic records do not use."""
    hds = np.concatenate([first.haplotype_dosage, second.haplotype_dosage])
    calls = np.concatenate([first.calls, second.calls])
    left_out = None
    if first.left_out is not None and second.left_out is not None:
        left_out = np.concatenate([first.left_out, second.left_out])
    return ImputedBlock(first.start, second.stop, hds, calls, left_out=left_out)


def header_text(chrom: str, samples: Sequence[str], extra: Mapping[str, str], fields: Sequence[str]) -> bytes:
    """The header of an imputed file, with one ``##vcfbert_KEY=VALUE`` line for each of ``extra``."""
    own = [f"##vcfbert_{key}={' '.join(str(value).split())}" for key, value in extra.items()]
    lines = [
        "##fileformat=VCFv4.3",
        f"##source=vcfbert {vcfbert.__version__}",
        f"##contig=<ID={chrom}>",
        *_META,
        *(f"##FORMAT=<ID={name},{_FORMATS[name]}>" for name in chosen_fields(fields)),
        *own,
        "\t".join([*_COLUMNS, *samples]),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


class Records(Protocol):
    """The text of a file, header and records, to be written once, one way or the other."""

    def text(self) -> Iterator[bytes]:
        """In pieces."""

    def write_bgzf(self, handle: BinaryIO) -> bytes:
        """Writes it as BGZF and returns the bytes of its tabix index."""


@dataclass(frozen=True)
class _Lines:
    head: bytes
    lines: Iterator[Line]
    chrom: str
    threads: int

    def text(self) -> Iterator[bytes]:
        yield self.head
        yield from (line.text for line in self.lines)

    def write_bgzf(self, handle: BinaryIO) -> bytes:
        return write_indexed(handle, self.head, self.lines, self.chrom, self.threads)


def save_records(path: Path, records: Records, panel: Panel, threads: int) -> None:
    """Writes ``records`` of the panel's sites to ``path``, in the kind that its name says, with its index."""
    if path.name.endswith(".vcf"):
        with atomic_file(path) as temporary, temporary.open("wb") as handle:
            handle.writelines(records.text())
    elif path.name.endswith(".bcf"):
        _save_bcf(path, records, threads)
    else:
        _save_bgzipped(path, records, panel)


def _save_bgzipped(path: Path, records: Records, panel: Panel) -> None:
    if panel.n_sites and int(panel.sites.pos[-1]) >= bgzf.MAX_TABIX_POSITION:
        raise InputError(
            "position_too_large",
            f"position {panel.sites.pos[-1]} is beyond {bgzf.MAX_TABIX_POSITION}, the most that a tabix index can hold",
            where=str(path),
            hint="write a .bcf file instead",
        )
    with atomic_file(path) as temporary:
        with temporary.open("wb") as handle:
            index = records.write_bgzf(handle)
        # The index gets its name first: a finished file is never without one.
        with atomic_file(path.with_name(f"{path.name}.tbi")) as temporary_index:
            temporary_index.write_bytes(index)


def write_indexed(handle: BinaryIO, head: bytes, lines: Iterator[Line], chrom: str, threads: int) -> bytes:
    """Writes ``head`` and ``lines``, of one chromosome and in order of position, as BGZF into ``handle``.

    Returns the bytes of the file's tabix index.
    """
    return bgzf.tabix_index(chrom, *write_lines(handle, head, lines, threads))


def write_lines(handle: BinaryIO, head: bytes, lines: Iterator[Line], threads: int) -> Places:
    """The same; returns where the records are, as ``bgzf.tabix_index`` takes it."""
    intervals: list[tuple[int, int, int]] = []  # start and stop of each record, length of its line
    with bgzf.BgzfWriter(handle, threads=threads) as writer:
        writer.write(head)
        for line in lines:
            writer.write(line.text)
            intervals.append((line.start, line.stop, len(line.text)))
    start, stop, length = np.array(intervals, dtype=np.int64).reshape(-1, 3).T
    offsets = len(head) + np.concatenate([[0], np.cumsum(length)])
    return Places(start, stop, writer.virtual_offsets(offsets))


def _save_bcf(path: Path, records: Records, threads: int) -> None:
    with (
        atomic_file(path) as temporary,
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        text = Path(folder) / "text.vcf.gz"
        with text.open("wb") as handle:
            index = records.write_bgzf(handle)
        text.with_name(f"{text.name}.tbi").write_bytes(index)  # htslib complains on stderr of a VCF.gz without one
        with (
            pysam.VariantFile(str(text), threads=threads) as source,
            pysam.VariantFile(str(temporary), "wb", header=source.header, threads=threads) as target,
        ):
            for record in source:
                target.write(record)
        with atomic_file(path.with_name(f"{path.name}.csi")) as temporary_index:
            # pysam's type stub lacks the preset.
            pysam.tabix_index(
                str(temporary),
                force=True,
                preset="bcf",  # type: ignore[arg-type]
                csi=True,
                index=str(temporary_index),
            )
