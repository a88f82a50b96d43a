"""Records of imputed sites as VCF text, and what a record holds beside the values of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.record_values import NO_GQ, ONE, Flags, Qualities, Thousandths, called_alleles
from vcfbert.kernels import Doubles, Indices, Numbers, compiled

Characters = npt.NDArray[np.uint8]

# Columns of ``RecordContents.numbers``.
AF, MAF, DR2, ER2 = range(4)


class RecordColumns(NamedTuple):
    """The columns of r records of l sites. Record i has the sites ``first[i]`` to ``first[i + 1] - 1``, an ALT each.

    Text i of a buffer begins at ``starts[i]`` and ends before the separator at ``starts[i + 1] - 1``.
    """

    first: Indices  # [r + 1]
    swapped: Flags  # [l], True where REF and ALT are written exchanged
    pos: Numbers  # [l], 1-based
    ref: Characters
    ref_starts: Indices  # [l + 1]
    alt: Characters
    alt_starts: Indices  # [l + 1]
    id: Characters  # the ID of a record is that of its first site
    id_starts: Indices  # [l + 1]
    info: Characters  # kept INFO of a record is that of its first site: text with a ';' before each field, or BCF
    info_starts: Indices  # [l + 1]
    n_info: Characters  # [l], its number of fields
    length: Indices  # [l], bases of the reference that a record covers, by END or else REF

    def records(self, begin: int, end: int) -> RecordColumns:
        """The records [begin, end)."""
        start, stop = int(self.first[begin]), int(self.first[end])
        edges = slice(start, stop + 1)
        return RecordColumns(
            self.first[begin : end + 1] - start,
            self.swapped[start:stop],
            self.pos[start:stop],
            self.ref,
            self.ref_starts[edges],
            self.alt,
            self.alt_starts[edges],
            self.id,
            self.id_starts[edges],
            self.info,
            self.info_starts[edges],
            self.n_info[start:stop],
            self.length[start:stop],
        )

    def kept_info(self, site: int) -> bytes:
        """Kept INFO of the record that begins at a site."""
        return _line(self.info, self.info_starts, site)

    def texts(self, site: int) -> tuple[bytes, bytes, bytes]:
        """REF, ALT and ID of a site as they are written."""
        ref = _line(self.ref, self.ref_starts, site)
        alt = _line(self.alt, self.alt_starts, site)
        return *((alt, ref) if self.swapped[site] else (ref, alt)), _line(self.id, self.id_starts, site)


def _line(buffer: Characters, starts: Indices, i: int) -> bytes:
    return buffer[starts[i] : starts[i + 1] - 1].tobytes()


class RecordContents(NamedTuple):
    """INFO and samples of the same sites; see ``record_values.RecordValues``."""

    hds: Thousandths  # [l, n, 2]
    two: Thousandths  # [l, n]
    gq: Qualities  # [l, n], or empty without GQ
    numbers: Doubles  # [l, 4]: AF, MAF of the record (in the row of its first site), DR2, ER2 or NaN
    typed: Flags  # [l]
    kept: Flags  # [r], True where the record is written


@compiled
def spell_records(
    columns: RecordColumns,
    contents: RecordContents,
    haploid: Flags,
    fields: Flags,
    chrom: Characters,
    format: Characters,
    out: Characters,
    ends: Indices,
) -> None:
    """Writes the lines of the records to ``out``, which must have room, and where each ends in it to ``ends`` [r].

    ``haploid`` [n]: True for haploid samples. ``fields`` [4]: whether DS, HDS, GP and GQ are written after GT.
    ``format``: the text of FORMAT. Eight bytes after the last line may be overwritten.
    """
    place = 0
    for record, (start, stop) in enumerate(pairwise(columns.first.tolist())):
        if contents.kept[record]:
            ref, _, id_ = columns.texts(start)
            line = [
                chrom.tobytes(),
                b"%d" % columns.pos[start],
                id_,
                ref,
                b",".join(columns.texts(site)[1] for site in range(start, stop)),
                b".\tPASS",
                _info(contents, start, stop).encode() + columns.kept_info(start),
                format.tobytes(),
            ]
            samples = (_sample(contents, start, stop, sample, haploid, fields) for sample in range(len(haploid)))
            text = b"\t".join([*line, *(sample.encode() for sample in samples)]) + b"\n"
            out[place : place + len(text)] = np.frombuffer(text, np.uint8)
            place += len(text)
        ends[record] = place


def _info(contents: RecordContents, start: int, stop: int) -> str:
    numbers = contents.numbers[start:stop]
    fields = [f"AF={_joined(numbers[:, AF], 5)}", f"MAF={numbers[0, MAF]:.5g}", f"DR2={_joined(numbers[:, DR2], 4)}"]
    if not np.isnan(numbers[:, ER2]).all():
        fields.append(f"ER2={_joined(numbers[:, ER2], 4)}")
    return ";".join([*fields, "TYPED" if contents.typed[start:stop].any() else "IMP"])


def _joined(values: Doubles, digits: int) -> str:
    return ",".join("." if value != value else f"{value:.{digits}g}" for value in values.tolist())


def _sample(contents: RecordContents, start: int, stop: int, sample: int, haploid: Flags, fields: Flags) -> str:
    alleles, *values = sample_values(contents, start, stop, sample, bool(haploid[sample]))
    texts = ["|".join(map(str, alleles))]
    texts += [",".join(f"{v / ONE:g}" for v in of) for of, has in zip(values, fields, strict=False) if has]
    if fields[3]:
        quality = contents.gq[start, sample]
        texts.append("." if quality == NO_GQ else str(quality))
    return ":".join(texts)


def sample_values(
    contents: RecordContents, start: int, stop: int, sample: int, haploid: bool
) -> tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]:
    """The alleles, DS, HDS and GP of a sample in the record of sites [start, stop), in thousandths."""
    q = contents.hds[start:stop, sample, : 1 if haploid else 2].astype(np.int64)  # [k, ploidy]
    alleles, ds = called_alleles(q), q.sum(axis=1)
    probability: Any = np.concatenate([np.maximum(ONE - q.sum(axis=0, keepdims=True), 0), q])  # [1 + k, ploidy]
    if haploid:
        gp = probability[:, 0].tolist()
    elif len(q) == 1:
        two = int(contents.two[start, sample])
        gp = [ONE - int(ds[0]) + two, int(ds[0]) - 2 * two, two]
    else:
        both = np.outer(probability[:, 0], probability[:, 1])
        both = np.where(np.eye(len(both), dtype=bool), both, both + both.T)
        gp = [(int(both[j, k]) + ONE // 2) // ONE for k in range(len(both)) for j in range(k + 1)]
    return alleles.tolist(), ds.tolist(), q.T.reshape(-1).tolist(), gp
