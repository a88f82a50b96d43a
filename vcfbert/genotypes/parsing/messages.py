"""Messages from a parser process: values of declared kinds, as JSON and the raw bytes of arrays.

The receiver trusts no byte, because a damaged file may have taken over the sender. It builds only values of the kinds
that it names, with the declared types and dimensions, and runs nothing that it receives.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from vcfbert.errors import InputError, MissingExtraError, ResourceError, VcfbertError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.record_info import RecordInfo
from vcfbert.genotypes.regions import Region

HEAD: Final = struct.Struct("<4sII")  # magic, bytes of the JSON text, number of arrays
_MAGIC: Final = b"vcfp"
_LENGTH: Final = struct.Struct("<Q")
_MAX_TEXT: Final = 1 << 30  # bytes of a message's JSON text
_MAX_ARRAYS: Final = 64
_MAX_BYTES: Final = 1 << 33  # of an array

Buffers = list[memoryview]
Dims = dict[str, int]  # lengths of the named dimensions of one message
_ERRORS: Final = {kind.__name__: kind for kind in (InputError, MissingExtraError, ResourceError, VcfbertError)}


class MessageError(InputError):
    """A parser process sent no message, or values that are not of the expected kind."""

    def __init__(self, what: str = "values that do not fit") -> None:
        super().__init__("file_unreadable", f"its parser sent {what}")


class Kind(Protocol):
    """How values of one kind are written and read."""

    def pack(self, value: Any, buffers: Buffers) -> Any:
        """The JSON value; bytes of arrays are appended to ``buffers``."""

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        """The value. Takes its arrays off the front of ``buffers``. Raises MessageError."""


class Plain:
    """A number, text or flag of JSON, of one of ``types``."""

    def __init__(self, *types: type) -> None:
        self._types = types

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return value

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) in self._types)
        if type(packed) is str:
            packed.encode()  # raises ValueError for half a surrogate pair
        return packed


class Array:
    """An array of numbers or flags. ``dims``: lengths, or names whose length is the same throughout a message."""

    def __init__(self, dtype: str, *dims: str | int) -> None:
        self._dtype, self._dims = np.dtype(dtype), dims

    def pack(self, value: Any, buffers: Buffers) -> Any:
        assert value.dtype == self._dtype, f"an array of {self._dtype} expected, not of {value.dtype}"
        buffers.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return value.shape

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) is list and len(packed) == len(self._dims) and len(buffers) > 0)
        check(all(type(length) is int and length >= 0 for length in packed))
        for name, length in zip(self._dims, packed, strict=True):
            check(length == (name if isinstance(name, int) else dims.setdefault(name, length)))
        data = buffers.pop(0)
        n_cells = 1
        for length in packed:
            n_cells *= length
        check(n_cells * self._dtype.itemsize == len(data))
        values = np.frombuffer(data, np.uint8)
        check(self._dtype != np.bool_ or not len(values) or int(values.max()) <= 1)
        return values.view(self._dtype).reshape(packed)


class Texts:
    """Strings along a dimension: an array of objects, or a tuple."""

    def __init__(self, dim: str, *, as_tuple: bool = False) -> None:
        self._dim, self._as_tuple = dim, as_tuple

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return list(value)

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) is list and all(type(text) is str for text in packed))
        check(dims.setdefault(self._dim, len(packed)) == len(packed))
        "".join(packed).encode()  # raises ValueError for half a surrogate pair
        return tuple(packed) if self._as_tuple else np.array(packed, dtype=object)


class Numbers:
    """A tuple of integers."""

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return list(value)

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) is list and all(type(number) is int for number in packed))
        return tuple(packed)


class Counts:
    """A dict of names and integers."""

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return dict(value)

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) is dict and all(type(number) is int for number in packed.values()))
        "".join(packed).encode()
        return packed


class Error:
    """A VcfbertError of a class that reading raises, or None."""

    def pack(self, value: Any, buffers: Buffers) -> Any:
        if value is None:
            return None
        kind = next(name for name, known in _ERRORS.items() if isinstance(value, known))
        return [kind, value.code, value.what, value.where, value.hint]

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        if packed is None:
            return None
        check(type(packed) is list and len(packed) == 5 and all(type(text) is str for text in packed[:3]))
        check(packed[0] in _ERRORS and all(text is None or type(text) is str for text in packed[3:]))
        "".join(text or "" for text in packed).encode()
        kind, code, what, where, hint = packed
        return _ERRORS[kind](code, what, where=where, hint=hint)


class Record:
    """An instance of ``made``, which takes ``fields`` by name. ``valid`` returns whether its values fit each other."""

    def __init__(self, made: type, valid: Callable[[Any], bool] | None = None, **fields: Kind) -> None:
        self.made = made
        self._fields = fields
        self._valid = valid

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return [kind.pack(getattr(value, name), buffers) for name, kind in self._fields.items()]

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        check(type(packed) is list and len(packed) == len(self._fields))
        values = {
            name: kind.unpack(part, buffers, dims)
            for (name, kind), part in zip(self._fields.items(), packed, strict=True)
        }
        value = self.made(**values)
        check(self._valid is None or self._valid(value))
        return value


class Optional:
    """A value of another kind, or None."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def pack(self, value: Any, buffers: Buffers) -> Any:
        return None if value is None else self._kind.pack(value, buffers)

    def unpack(self, packed: Any, buffers: Buffers, dims: Dims) -> Any:
        return None if packed is None else self._kind.unpack(packed, buffers, dims)


def _is_of_lines(info: RecordInfo) -> bool:
    return not any("\n" in text for text in (*info.texts, *info.header))


NUMBER: Final = Plain(int)
TEXT: Final = Plain(str)
ERROR: Final = Error()
REGION: Final = Record(Region, chrom=TEXT, start=NUMBER, stop=Plain(int, type(None)))
SITES: Final = Record(
    Sites,
    chrom=TEXT,
    pos=Array("int32", "site"),
    ref=Texts("site"),
    alt=Texts("site"),
    id=Texts("site"),
    continues=Array("bool", "site"),
    info=Optional(Record(RecordInfo, _is_of_lines, texts=Texts("site"), header=Texts("info line", as_tuple=True))),
)


def packed_message(value: Any, kinds: Sequence[Record]) -> list[bytes | memoryview]:
    """The bytes of a message: ``value`` is of the class of one of ``kinds``."""
    number = next(number for number, kind in enumerate(kinds) if type(value) is kind.made)
    buffers: Buffers = []
    text = json.dumps([number, kinds[number].pack(value, buffers)]).encode()
    lengths = b"".join(_LENGTH.pack(len(data)) for data in buffers)
    return [HEAD.pack(_MAGIC, len(text), len(buffers)) + lengths, text, *buffers]


def read_message(read: Callable[[int], memoryview], kinds: Sequence[Record]) -> Any:
    """The value of the next message. ``read`` returns the given number of bytes. Raises MessageError."""
    magic, n_text, n_arrays = HEAD.unpack(read(HEAD.size))
    check(magic == _MAGIC and n_text <= _MAX_TEXT and n_arrays <= _MAX_ARRAYS)
    lengths = [_LENGTH.unpack(read(_LENGTH.size))[0] for _ in range(n_arrays)]
    check(all(length <= _MAX_BYTES for length in lengths))
    text = read(n_text)
    buffers = [read(length) for length in lengths]
    try:
        body = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise MessageError("no JSON") from error
    check(type(body) is list and len(body) == 2 and type(body[0]) is int and 0 <= body[0] < len(kinds))
    dims: Dims = {}
    try:
        value = kinds[body[0]].unpack(body[1], buffers, dims)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError("values of other types") from error
    check(not buffers)
    return value


def check(valid: bool) -> None:
    """Raises MessageError unless ``valid``."""
    if not valid:
        raise MessageError


def in_range(values: Any, low: int, high: int) -> bool:
    """Whether all of an array's ``values`` lie in low..high."""
    return not values.size or (int(values.min()) >= low and int(values.max()) <= high)
