"""Finds the line of a VCF that htslib cannot parse, and says what is wrong with it.

htslib names no line. It also ends the process for some records. The text is read again by plain Python, line by line.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from vcfbert.constants import MAX_POSITION
from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.trace import Trace
from vcfbert.genotypes.vcf_file import HEADER_SPACES, VcfFile, inspect, truncated

_N_COLUMNS: Final = 9  # before the samples
_POS, _FORMAT = 1, 8
_NUMBER: Final = re.compile(rb"[0-9]+")
_GT: Final = re.compile(rb"[|/]?(?:\.|[0-9]{1,5})(?:[|/](?:\.|[0-9]{1,5}))*")
_LEADING_MARK: Final = re.compile(rb"(?<=\t)[|/](?=[.0-9])")
_SHOWN: Final = 30  # letters of a value
_SHOW_RECORD: Final = "`bcftools view` on the file shows the problem"


class Fault(NamedTuple):
    """What is wrong with a line, and what to do."""

    what: str
    hint: str = _SHOW_RECORD


def parse_error(file: VcfFile, n_read: int) -> InputError:
    """The error of a record that cannot be parsed: 'truncated' or 'vcf_invalid'. ``n_read`` records before it were."""
    if file.container == "plain" and not _ends_with_newline(file.path):
        return truncated(file.path, "its last line is incomplete")
    found = first_fault(file, n_read)
    if found is not None:
        return found
    behind = f", behind record {n_read}" if n_read else ""
    what = "a record cannot be parsed, or the data are damaged"
    return InputError("vcf_invalid", what, where=f"{file.path}{behind}", hint=_SHOW_RECORD)


def first_fault(file: VcfFile, n_read: int = 0) -> InputError | None:
    """The error of the first malformed line behind ``n_read`` records; None if there is none, or in a BCF."""
    if file.is_bcf:
        return None
    with suppress(EOFError, OSError, zlib.error):  # the data are damaged: no line is
        for line in islice(_lines(file.path), n_read, None):
            error = _error_of(line, file)
            if error is not None:
                return error
    return None


def _error_of(line: _Line, file: VcfFile) -> InputError | None:
    fault = _fault(line.text, file.samples)
    if fault is None:
        return None
    where = f"{file.path}, line {line.number} (record {line.record})"
    return InputError("vcf_invalid", fault.what, where=where, hint=fault.hint)


def line_checker(file: VcfFile) -> Callable[[int], None]:
    """A function that goes on by a number of a VCF's records, and raises the error of the record there, if any.

    1 is the record after the last one that was checked.
    """
    lines = _lines(file.path)

    def check(step: int) -> None:
        line = next(islice(lines, step - 1, None), None)
        error = None if line is None else _error_of(line, file)
        if error is not None:
            raise error

    return check


def refuse_malformed(path: Path, trace: Trace, n_read: int) -> Iterator[None]:
    """Raises the error of the first malformed line behind ``n_read`` records, if there is one.

    Runs in a parser process, after another one died of the file.
    """
    with suppress(EOFError, OSError, zlib.error):
        if (found := first_fault(inspect(path), n_read)) is not None:
            raise found
    yield from ()


def has_leading_mark(file: VcfFile, n_read: int) -> bool:
    """Whether the line behind ``n_read`` records has a phase mark before a call, as VCF 4.4 allows: |0|1."""
    if file.is_bcf:
        return False
    with suppress(EOFError, OSError, zlib.error):
        line = next(islice(_lines(file.path), n_read, None), None)
        return line is not None and _LEADING_MARK.search(_calls(line.text)) is not None
    return False


def without_leading_marks(file: VcfFile) -> Iterator[bytes]:
    """The lines of a VCF, without phase marks before calls."""
    with _text(file.path) as stream:
        for line in stream:
            if line.startswith(b"#"):
                yield line
            else:
                calls = _calls(line)
                yield line[: len(line) - len(calls)] + _LEADING_MARK.sub(b"", calls)


class _Line(NamedTuple):
    number: int  # from 1
    record: int  # from 1
    text: bytes  # without its end


def _lines(path: Path) -> Iterator[_Line]:
    """The lines of a VCF's records."""
    n_records = 0
    with _text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.startswith(b"#"):
                n_records += 1
                yield _Line(number, n_records, line.rstrip(b"\r\n"))


def _text(path: Path) -> BinaryIO:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path) if packed else path.open("rb"))


def _calls(line: bytes) -> bytes:
    """The samples' columns of a line, with the tab before them."""
    columns = line.split(b"\t", _N_COLUMNS)
    return b"\t" + columns[_N_COLUMNS] if len(columns) > _N_COLUMNS else b""


def _fault(line: bytes, samples: Sequence[str]) -> Fault | None:
    columns = line.split(b"\t")
    expected = _N_COLUMNS + len(samples)
    if not line:
        return Fault("the line is empty", "remove empty lines: `sed '/^$/d' IN > OUT`")
    if b"\0" in line:
        return Fault("the line has a NUL byte", "copy or create the file again")
    if len(columns) < expected:
        if len(line.split()) > len(columns):
            return Fault("columns are separated by spaces, and a VCF needs tabs", HEADER_SPACES)
        return Fault(f"the line has {len(columns)} columns, and the header has {expected}")
    return _position_fault(columns[_POS]) or _calls_fault(columns, samples)


def _position_fault(pos: bytes) -> Fault | None:
    if not _NUMBER.fullmatch(pos):
        return Fault(f"POS is {_shown(pos)}, and must be a whole number")
    if len(pos) > len(str(MAX_POSITION)) or int(pos) > MAX_POSITION:
        return Fault(f"POS is {_shown(pos)}, and positions end at {MAX_POSITION}")
    return None


def _calls_fault(columns: Sequence[bytes], samples: Sequence[str]) -> Fault | None:
    names = columns[_FORMAT].split(b":")
    if b"GT" not in names:
        return None
    place = names.index(b"GT")
    calls = [call.split(b":") for call in columns[_N_COLUMNS:]]
    if place and all(len(call) <= place for call in calls):  # of this record htslib ends the process
        what = f"FORMAT is {columns[_FORMAT].decode(errors='replace')}, and sample {samples[0]!r} has no GT"
        return Fault(what, "write GT first in FORMAT, and a GT for each sample")
    for sample, call in zip(samples, calls, strict=False):
        if len(call) > place and not _GT.fullmatch(call[place]):
            return Fault(f"GT of sample {sample!r} is {_shown(call[place])}")
    return None


def _shown(value: bytes) -> str:
    return repr(value[:_SHOWN].decode(errors="replace"))


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as handle:
        handle.seek(-1, 2)
        return handle.read() == b"\n"
