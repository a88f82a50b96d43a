"""Writes what a panel keeps of INFO into imputed records, as VCF text or as BCF."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vcfbert.genotypes.record_info import attribute, declared

Fields = dict[str, str]  # the value of each field; '' of a flag

_INT8, _INT16, _INT32, _FLOAT, _CHAR = 1, 2, 3, 5, 7
_CODES: Final = {_INT8: "b", _INT16: "h", _INT32: "i"}
_MISSING_INT32: Final = -(1 << 31)
_MISSING_FLOAT: Final = struct.pack("<I", 0x7F800001)


class InfoFields:
    """The kept fields of the records of one panel. ``header``: the lines that declare them."""

    def __init__(self, header: Sequence[str]) -> None:
        lines = declared(header, "INFO")
        self._types = {name: attribute(line, "Type") for name, line in lines.items()}
        self._per_alt = {name for name, line in lines.items() if attribute(line, "Number") == "A"}

    def joined(self, texts: Sequence[str]) -> Fields:
        """The fields of a record from the texts of its sites, one per ALT allele."""
        sites = [_fields(text) for text in texts]
        names = dict.fromkeys(name for site in sites for name in site)
        return {name: self._value(name, [site.get(name) for site in sites]) for name in names}

    def _value(self, name: str, values: Sequence[str | None]) -> str:
        if name in self._per_alt:
            return ",".join("." if value is None else value for value in values)
        return next(value for value in values if value is not None)

    def text(self, fields: Fields) -> bytes:
        """The fields as they follow others in a VCF."""
        return "".join(f";{name}={value}" if value else f";{name}" for name, value in fields.items()).encode()

    def encoded(self, fields: Fields, keys: Mapping[str, int]) -> bytes:
        """The fields as BCF has them. ``keys``: their numbers in its header."""
        return b"".join(_integers([keys[name]]) + self._typed(name, value) for name, value in fields.items())

    def _typed(self, name: str, value: str) -> bytes:
        kind = self._types.get(name)
        if kind == "Flag":
            return b"\0"
        if kind == "Integer":
            return _integers([_number(one) for one in value.split(",")])
        if kind == "Float":
            values = [_float(one) for one in value.split(",")]
            return _type(len(values), _FLOAT) + b"".join(values)
        text = value.encode()
        return _type(len(text), _CHAR) + text


def _fields(text: str) -> Fields:
    parts = (field.partition("=") for field in text.split(";") if field)
    return {name: value for name, _, value in parts}


def _type(length: int, kind: int) -> bytes:
    return bytes([length << 4 | kind]) if length < 15 else bytes([15 << 4 | kind]) + _integers([length])


def _integers(values: Sequence[int]) -> bytes:
    """A typed vector, of the smallest type whose reserved values it does not use."""
    known = [value for value in values if value != _MISSING_INT32] or [0]
    kind, bits = next((kind, bits) for kind, bits in ((_INT8, 8), (_INT16, 16), (_INT32, 32)) if _fit(known, bits))
    own = [-(1 << (bits - 1)) if value == _MISSING_INT32 else value for value in values]
    return _type(len(own), kind) + struct.pack(f"<{len(own)}{_CODES[kind]}", *own)


def _fit(values: Sequence[int], bits: int) -> bool:
    return bits == 32 or (min(values) >= 8 - (1 << (bits - 1)) and max(values) < 1 << (bits - 1))


def _number(text: str) -> int:
    """An integer; missing where the text is none of 32 bits."""
    try:
        value = int(text)
    except ValueError:
        return _MISSING_INT32
    return value if abs(value) < (1 << 31) - 8 else _MISSING_INT32


def _float(text: str) -> bytes:
    try:
        return struct.pack("<f", np.float32(float(text)))
    except (ValueError, OverflowError):
        return _MISSING_FLOAT
