"""Names in the records of a VCF that its header does not declare: chromosomes, filters, and keys of INFO and FORMAT.

htslib declares each of them when it meets it, and then copies a table of all names. Its time is the square of their
number, so a small file could take hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from vcfbert.kernels import Alleles, Bits, Indices, compiled

_CONTIG: Final = 1
_KINDS: Final = {b"contig": _CONTIG, b"FILTER": 2, b"INFO": 3, b"FORMAT": 4}  # and their columns:
_COLUMN: Final = {1: 0, 2: 6, 3: 7, 4: 8}
_SEPARATOR: Final = {2: b";", 3: b";", 4: b":"}
_DECLARED: Final = re.compile(rb"^##(contig|FILTER|INFO|FORMAT)=<(?:[^\n]*?,)??ID=([^,>\n]+)", re.MULTILINE)


class RecordNames:
    """Counts undeclared names, up to ``most``. ``n_contigs``: declared chromosomes. ``n_undeclared``: further names.
    ``n_keys``: filters and keys of INFO and FORMAT of the record that has most of them.
    """

    def __init__(self, header: bytes, most: int) -> None:
        """``header``: its lines."""
        declared = _DECLARED.findall(header)
        self.n_contigs = sum(kind == b"contig" for kind, _ in declared)
        self.n_undeclared = 0
        self._most = most
        self._largest = np.zeros(1, dtype=np.int64)
        room = 2 * (len(declared) + most + 2)
        self._table = np.zeros(1 << room.bit_length(), dtype=np.uint64)
        self._add_declared([*declared, (b"FILTER", b"PASS")])

    @property
    def n_keys(self) -> int:
        return int(self._largest[0])

    def read(self, text: bytes | bytearray, stop: int | None = None) -> None:
        """Counts the names of whole records, the bytes of ``text`` before ``stop``."""
        if self.n_undeclared <= self._most:
            content, end = np.frombuffer(text, np.uint8), len(text) if stop is None else stop
            self.n_undeclared += undeclared(content, 0, end, self._table, self._most, self._largest)

    def _add_declared(self, declared: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [b"\t" * (column := _COLUMN[_KINDS[kind]]) + name + b"\t" * (8 - column) for kind, name in declared]
        text = np.frombuffer(b"\n".join(lines), np.uint8)
        undeclared(text, 0, len(text), self._table, len(lines), np.zeros(1, dtype=np.int64))


@compiled
def undeclared(text: Alleles, start: int, stop: int, table: Bits, most: int, most_keys: Indices) -> int:
    """The number of names in the lines ``text`` [start, stop) that are not in ``table``, counted to ``most`` and a few.

    ``table`` [a power of two, more than all names]: hashes of names, to which new ones are added; 0 is free.
    ``most_keys`` [1]: becomes the number of filters and keys of the line that has most of them, if it is larger.
    """
    fresh = 0
    while start < stop and fresh <= most:
        end = start + bytes(text[start:stop]).split(b"\n", 1)[0].__len__()
        columns, n_keys = bytes(text[start:end]).split(b"\t", 9), 0
        for kind, place in _COLUMN.items():
            if place >= len(columns):
                break
            names = columns[place].split(_SEPARATOR[kind]) if kind != _CONTIG else [columns[place]]
            n_keys += len(names) if kind != _CONTIG else 0
            for name in names:
                key = name.partition(b"=")[0] if kind == 3 else name
                if key and (kind == _CONTIG or key != b".") and fresh <= most:
                    fresh += _is_new(key, kind, table)
        most_keys[0] = max(most_keys[0], n_keys)
        start = end + 1
    return fresh


def _is_new(name: bytes, kind: int, table: Bits) -> bool:
    """Whether the name is new in the table, where it is afterwards. Its hash is FNV-1a."""
    value = 14695981039346656037 ^ kind
    for byte in name:
        value = (value ^ byte) * 1099511628211 % (1 << 64)
    value = value ^ value >> 32 or 1
    place = value % len(table)
    while table[place] not in (0, value):
        place = (place + 1) % len(table)
    new = bool(table[place] == 0)
    table[place] = value
    return new
