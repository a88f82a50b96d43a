"""How far a parser process has read, in memory that it shares with the process that reads its messages."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

_LAST: Final = struct.Struct("<qqB")  # number of records, position of the last one, bytes of its chromosome's name
_MAX_NAME: Final = 255
_BYTES: Final = _LAST.size + _MAX_NAME


class Trace:
    """The last record that was read, so that the other process can name it if this one dies."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of ``new_memory``, which may be closed afterwards."""
        self._memory = mmap.mmap(descriptor, _BYTES)
        self._count = 0
        self._chrom, self._name = "", b""

    def note(self, chrom: str, pos: int, count: int = 1) -> None:
        """Counts ``count`` records, of which the last is at ``pos``."""
        if chrom != self._chrom:
            self._chrom, self._name = chrom, chrom.encode(errors="replace")[:_MAX_NAME]
            self._memory[_LAST.size : _LAST.size + len(self._name)] = self._name
        self._count += count
        _LAST.pack_into(self._memory, 0, self._count, pos, len(self._name))

    def restart(self) -> None:
        """Counts from the file's first record again."""
        self._count = 0
        _LAST.pack_into(self._memory, 0, 0, 0, 0)

    @property
    def count(self) -> int:
        """The number of records so far."""
        return max(int(_LAST.unpack_from(self._memory)[0]), 0)

    def __str__(self) -> str:
        """Where the next record is."""
        count, pos, length = _LAST.unpack_from(self._memory)
        if count <= 0:
            return "at its first record or in its header"
        name = self._memory[_LAST.size : _LAST.size + length].decode(errors="replace")
        shown = "".join(letter for letter in name if letter.isprintable())
        return f"behind record {count} ({shown}:{pos})"


def new_memory() -> int:
    """A file descriptor of shared memory for a ``Trace``."""
    descriptor = os.memfd_create("vcfbert-parser")
    os.ftruncate(descriptor, _BYTES)
    return descriptor
