"""Records of imputed sites as BCF2 (section 6 of the VCF specification).

Floats are the nearest to the decimal numbers of the text, so that a BCF and a VCF have equal values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from vcfbert.genotypes.record_text import (
    AF,
    DR2,
    ER2,
    MAF,
    Characters,
    RecordColumns,
    RecordContents,
    sample_values,
)
from vcfbert.genotypes.record_values import NO_GQ, ONE, Flags
from vcfbert.kernels import Floats, Indices, compiled

# The names whose numbers ``encode_records`` takes, in this order.
KEYS: Final = ("PASS", "AF", "MAF", "DR2", "ER2", "IMP", "TYPED", "GT", "DS", "HDS", "GP", "GQ")

# THOUSANDTHS[i] is the float nearest to i / 1000.
THOUSANDTHS: Final = (np.arange(2 * ONE + 1) / ONE).astype(np.float32)

_INT8, _INT16, _INT32, _FLOAT, _CHAR = 1, 2, 3, 5, 7
_CODES: Final = {_INT8: "b", _INT16: "h", _INT32: "i"}
_MISSING_INT8, _END_INT8, _END_INT16 = -128, -127, -32767
_MISSING_FLOAT, _END_FLOAT = struct.pack("<I", 0x7F800001), struct.pack("<I", 0x7F800002)


@compiled
def encode_records(
    columns: RecordColumns,
    contents: RecordContents,
    haploid: Flags,
    fields: Flags,
    contig: int,
    keys: Characters,
    thousandths: Floats,
    out: Characters,
    ends: Indices,
) -> None:
    """Writes the records to ``out``, which must have room, and where each ends in it to ``ends`` [r].

    ``haploid``, ``fields``: as in ``record_text.spell_records``. ``contig``: the number of the chromosome in the
    header. ``keys`` [12]: the numbers of KEYS there, any for absent fields. ``thousandths``: THOUSANDTHS.
    """
    place = 0
    for record, (start, stop) in enumerate(pairwise(columns.first.tolist())):
        if contents.kept[record]:
            number = dict(zip(KEYS, keys.tolist(), strict=True))
            shared = _shared(columns, contents, record, contig, int(fields.sum()), number)
            samples = _samples(contents, start, stop, haploid, fields, number)
            text = struct.pack("<2I", len(shared), len(samples)) + shared + samples
            out[place : place + len(text)] = np.frombuffer(text, np.uint8)
            place += len(text)
        ends[record] = place


def _type(length: int, kind: int) -> bytes:
    if length < 15:
        return bytes([length << 4 | kind])
    size = _INT8 if length < 128 else _INT16 if length < 32768 else _INT32
    return bytes([15 << 4 | kind, 1 << 4 | size]) + struct.pack(f"<{_CODES[size]}", length)


def _key(number: int) -> bytes:
    return bytes([1 << 4 | _INT8, number])


def _string(text: bytes) -> bytes:
    return _type(0, _CHAR) if text == b"." else _type(len(text), _CHAR) + text


def _numbers(values: Iterable[float], digits: int) -> bytes:
    floats = [_MISSING_FLOAT if v != v else struct.pack("<f", np.float32(float(f"{v:.{digits}g}"))) for v in values]
    return _type(len(floats), _FLOAT) + b"".join(floats)


def _shared(
    columns: RecordColumns, contents: RecordContents, record: int, contig: int, more_fields: int, number: dict[str, int]
) -> bytes:
    start, stop = columns.first[record : record + 2].tolist()
    numbers = contents.numbers[start:stop]
    ref, _, id_ = columns.texts(start)
    alleles = [ref, *(columns.texts(site)[1] for site in range(start, stop))]
    info = [("AF", numbers[:, AF], 5), ("MAF", numbers[:1, MAF], 5), ("DR2", numbers[:, DR2], 4)]
    if not np.isnan(numbers[:, ER2]).all():
        info.append(("ER2", numbers[:, ER2], 4))
    head = struct.pack("<3i", contig, columns.pos[start] - 1, columns.length[start]) + _MISSING_FLOAT
    n_info = len(info) + 1 + int(columns.n_info[start])
    counts = (len(alleles) << 16 | n_info, (1 + more_fields) << 24 | contents.hds.shape[1])
    flag = number["TYPED" if contents.typed[start:stop].any() else "IMP"]
    return b"".join(
        [
            head,
            struct.pack("<2I", *counts),
            _string(id_),
            *map(_string, alleles),
            _key(number["PASS"]),
            *(_key(number[name]) + _numbers(values.tolist(), digits) for name, values, digits in info),
            _key(flag) + b"\0",  # a flag has no value
            columns.kept_info(start),
        ]
    )


def _samples(
    contents: RecordContents, start: int, stop: int, haploid: Flags, fields: Flags, number: dict[str, int]
) -> bytes:
    samples = [sample_values(contents, start, stop, i, bool(one)) for i, one in enumerate(haploid.tolist())]
    ploidy = 1 if haploid.all() else 2
    code, end = ("h", _END_INT16) if (stop - start + 1) << 1 | 1 > 127 else ("b", _END_INT8)
    parts = [_key(number["GT"]), _type(ploidy, _INT16 if code == "h" else _INT8)]
    for alleles, *_ in samples:
        codes = [(allele + 1) << 1 | 1 for allele in alleles]  # phased
        parts.append(struct.pack(f"<{ploidy}{code}", *codes, *[end] * (ploidy - len(codes))))
    for place, name in enumerate(("DS", "HDS", "GP")):
        if fields[place]:
            parts += [_key(number[name]), _floats([sample[place + 1] for sample in samples])]
    if fields[3]:
        gq = contents.gq[start].astype(np.int64)
        parts += [_key(number["GQ"]), _type(1, _INT8), np.where(gq == NO_GQ, _MISSING_INT8, gq).astype("i1").tobytes()]
    return b"".join(parts)


def _floats(rows: Sequence[Sequence[int]]) -> bytes:
    """Thousandths as a vector for each sample, padded to the longest."""
    width = max(map(len, rows))
    cells = [THOUSANDTHS[list(row)].astype("<f4").tobytes() + _END_FLOAT * (width - len(row)) for row in rows]
    return _type(width, _FLOAT) + b"".join(cells)
