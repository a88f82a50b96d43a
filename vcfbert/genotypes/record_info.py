"""Symbolic alleles of a panel, and the INFO that is kept of the panel's records.

A symbolic allele has no sequence: ``<DEL>``, ``<INS:ME:ALU>``, ``*`` or a breakend. No target is typed at such a site,
so it is imputed and written as the panel has it. END tells records of equal position and alleles apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from vcfbert.constants import MAX_POSITION
from vcfbert.errors import InputError

# ALT of a record without an ALT allele.
NO_ALT: Final = "."

# REF of a site that a reference block of a gVCF covers after its first base: the same as the panel's.
PANEL_REF: Final = "."
# ALT of a gVCF for alleles that were not seen.
ANY_OTHER_ALLELE: Final = ("<NON_REF>", "<*>")

# INFO fields that are kept of every record with a symbolic allele, and their declarations if the header lacks them.
_STRUCTURAL: Final = {
    "END": '##INFO=<ID=END,Number=1,Type=Integer,Description="End position of the variant">',
    "SVTYPE": '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">',
    "SVLEN": '##INFO=<ID=SVLEN,Number=.,Type=Integer,Description="Difference in length between REF and ALT alleles">',
}
# INFO fields of imputed files, which no field of the panel may replace.
OWN_INFO: Final = ("AF", "MAF", "DR2", "ER2", "IMP", "TYPED")
_MEANINGS: Final = {
    "DEL": "Deletion",
    "INS": "Insertion",
    "DUP": "Duplication",
    "INV": "Inversion",
    "CNV": "Copy number variable region",
}
_LINE: Final = re.compile(r"##(?P<kind>INFO|ALT)=<(?:.*?,)?ID=(?P<id>[^,>]+)")
_END: Final = re.compile(r"(?:^|;)END=(\d+)(?:;|$)")
_RESERVED: Final = re.compile(r"[\s;=]")
_MISSING_INTEGER: Final = -(1 << 31)

Text = npt.NDArray[np.object_]


class Info(Protocol):
    """INFO of one record."""

    def get(self, key: str, /) -> Any:
        """The value of a field: a scalar, several in a tuple, or True of a flag; None if the record lacks it."""


class HasInfo(Protocol):
    """A record."""

    @property
    def POS(self) -> int: ...

    @property
    def ALT(self) -> Sequence[str]: ...

    @property
    def INFO(self) -> Info: ...


@dataclass(frozen=True)
class RecordInfo:
    """INFO of the panel's records, one text per site."""

    texts: Text  # [n_sites], such as 'END=1200;SVTYPE=DEL'; '' where nothing is kept
    header: tuple[str, ...]  # the header's lines of these fields and of the symbolic alleles, in any order

    def take(self, index: npt.NDArray[np.int64] | slice) -> RecordInfo:
        """The INFO of the sites at the given indices."""
        return RecordInfo(self.texts[index], self.header)


def join_info(parts: Sequence[tuple[RecordInfo | None, int]]) -> RecordInfo | None:
    """The INFO of consecutive blocks of sites, each with its number of sites; None where no block has any."""
    if all(info is None for info, _ in parts):
        return None
    texts = [np.full(n_sites, "", dtype=object) if info is None else info.texts for info, n_sites in parts]
    return RecordInfo(np.concatenate(texts), joined_lines(info.header for info, _ in parts if info is not None))


def joined_lines(headers: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The lines of several headers, the first of each kind and ID."""
    lines: dict[tuple[str, str], str] = {}
    for header in headers:
        for line in header:
            match = _LINE.match(line)
            if match is not None:
                lines.setdefault((match["kind"], match["id"]), line)
    return tuple(lines.values())


def declared(header: Iterable[str], kind: str) -> dict[str, str]:
    """The lines of the header of ``kind``, INFO or ALT, by ID."""
    found = ((_LINE.match(line), line) for line in header)
    return {match["id"]: line for match, line in found if match is not None and match["kind"] == kind}


def attribute(line: str, name: str) -> str:
    """The value of an attribute of a header's line, such as Number; '' without it."""
    match = re.search(rf"[<,]{name}=([^,>]*)", line)
    return "" if match is None else match[1]


def is_symbolic(alt: str) -> bool:
    """Whether an ALT allele has no sequence."""
    return not alt.isalpha() and alt != NO_ALT


def end_of(text: str) -> int:
    """END in a text of ``RecordInfo``; 0 where it has none."""
    match = _END.search(text)
    return 0 if match is None else int(match[1])


def end_of_record(record: HasInfo) -> int:
    """END of a record; 0 where it has none, or none that can be."""
    value = record.INFO.get("END")
    values = [] if value is None else _values(value)
    return int(values[0]) if _is_end(values, record.POS) else 0


def is_reference_block(record: HasInfo) -> bool:
    """Whether a record is a gVCF's reference block: END, and no ALT but one for alleles that were not seen."""
    return all(alt in ANY_OTHER_ALLELE for alt in record.ALT) and end_of_record(record) > 0


class KeptFields:
    """Reads from the records of a file what is kept of their INFO."""

    def __init__(self, header: Iterable[str], names: Sequence[str] = (), *, where: str = "") -> None:
        """``header``: the lines of the file's header. ``names``: further fields, kept of all records.

        Raises InputError: info_unknown, info_number, info_reserved.
        """
        lines = list(header)
        self._alts = declared(lines, "ALT")
        self._fields = declared(lines, "INFO")
        for name in names:
            self._check(name, where)
        for name, line in _STRUCTURAL.items():
            own = self._fields.setdefault(name, line)
            if name == "END" and (attribute(own, "Number"), attribute(own, "Type")) != ("1", "Integer"):
                self._fields[name] = line
        self.names = tuple(dict.fromkeys(names))
        self._structural = tuple(dict.fromkeys([*_STRUCTURAL, *names]))
        self._per_alt = {name for name, line in self._fields.items() if attribute(line, "Number") == "A"}

    def _check(self, name: str, where: str) -> None:
        if name in OWN_INFO:
            what, hint = f"INFO/{name} is a field of imputed files", "choose other fields"
            raise InputError("info_reserved", what, where=where or None, hint=hint)
        if name in _STRUCTURAL:
            return
        if name not in self._fields:
            what = f"the header declares no field INFO/{name}"
            raise InputError("info_unknown", what, where=where or None, hint="`bcftools view -h` lists the fields")
        number = attribute(self._fields[name], "Number")
        if number in ("R", "G"):
            what = f"INFO/{name} has Number={number}, which records of one ALT allele cannot keep"
            raise InputError("info_number", what, where=where or None, hint="choose fields of another Number")

    def texts(self, record: HasInfo, alts: Sequence[str]) -> list[str]:
        """The text of each ALT allele of a record, whose INFO is read only if something may be kept."""
        names = self._structural if any(map(is_symbolic, alts)) else self.names
        fields: list[list[str]] = [[] for _ in alts]
        for name in names:
            value = record.INFO.get(name)
            if value is None or value is False:
                continue
            values = _values(value)
            if name == "END" and not _is_end(values, record.POS):
                continue
            split = name in self._per_alt and len(values) == len(alts)
            for number, own in enumerate(fields):
                kept = values[number : number + 1] if split else values
                own.append(name if value is True else f"{name}={','.join(kept)}")
        return [";".join(own) for own in fields]

    def info(self, alts: Text, texts: Text) -> RecordInfo | None:
        """What is kept of a block of sites; None where that is nothing."""
        symbolic = dict.fromkeys(alt[1:-1] for alt in alts.tolist() if alt.startswith("<") and alt.endswith(">"))
        used = dict.fromkeys(field.partition("=")[0] for text in texts.tolist() if text for field in text.split(";"))
        if not used and not any(map(is_symbolic, alts.tolist())):
            return None
        lines = [self._alts.get(name) or _alt_line(name) for name in symbolic]
        return RecordInfo(texts, tuple([*lines, *(self._fields[name] for name in used)]))


def _alt_line(name: str) -> str:
    copies = re.fullmatch(r"CN(\d+)", name)
    meaning = f"Copy number allele: {copies[1]} copies" if copies else _MEANINGS.get(name.partition(":")[0])
    if meaning is not None and ":" in name:
        meaning = f"{meaning} ({name.partition(':')[2]})"
    return f'##ALT=<ID={name},Description="{meaning or "Symbolic allele of the panel"}">'


def _values(value: Any) -> list[str]:
    if isinstance(value, str):
        return [_RESERVED.sub(lambda match: f"%{ord(match[0]):02X}", one) for one in value.split(",")]
    if isinstance(value, (tuple, list, np.ndarray)):
        return [text for one in value for text in _values(one)]
    if value is None or value == _MISSING_INTEGER or value != value:
        return ["."]
    return [f"{value:.7g}" if isinstance(value, (float, np.floating)) else str(value)]


def _is_end(values: Sequence[str], pos: int) -> bool:
    return len(values) == 1 and values[0].isdecimal() and pos <= int(values[0]) <= MAX_POSITION
