"""The parts of the service's JSON answers that the client and the command line read, and a check of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final


@dataclass(frozen=True)
class Nullable:
    """A value of this shape, or null, or a member that is missing."""

    shape: Shape


# A type; an object by its members, which may have others too; or a list by the shape of its elements.
Shape = type | UnionType | Mapping[str, Any] | list[Any] | Nullable

_REFUSAL: Final = {"code": str, "detail": str, "where": Nullable(str), "hint": Nullable(str)}
_REGION: Final = {"chrom": str, "from": int, "to": int}
MODELS: Final = {
    "models": [{"alias": str, "version": str, "variant": Nullable(str), "regions": Nullable([_REGION])}],
    "unavailable": [{"alias": str, "reason": Nullable(str)}],
}
SUBMITTED: Final = {"id": str}
_LISTED: Final = {
    "id": str,
    "state": str,
    "created": str,
    "name": str,
    "progress": {"done": int, "total": int, "share": int | float},
    "error": Nullable(_REFUSAL),
}
JOB: Final = {
    **_LISTED,
    "options": {"format": str},
    "model": dict,
    "qc": Nullable(dict),
    "summary": Nullable(dict),
}
JOBS: Final = {"jobs": [_LISTED], "next": Nullable(str)}
DONE_JOB: Final = {**JOB, "qc": {"n_samples": int, "n_used": int, "n_target_sites": int}, "summary": dict}
QC: Final = {"refused": Nullable(_REFUSAL)}
PROBLEM: Final = {**_REFUSAL, "qc": Nullable(dict)}


def misfit(value: Any, shape: Shape, place: str = "") -> str | None:
    """The place of the first part of ``value`` that is not of its shape, such as 'jobs[0].id'; None if all are.

    The place of ``value`` itself is ``place``.
    """
    if isinstance(shape, Nullable):
        return None if value is None else misfit(value, shape.shape, place)
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return place
        members = ((f"{place}.{name}" if place else name, value.get(name), part) for name, part in shape.items())
        return next((found for at, each, part in members if (found := misfit(each, part, at)) is not None), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return place
        elements = ((f"{place}[{number}]", each) for number, each in enumerate(value))
        return next((found for at, each in elements if (found := misfit(each, shape[0], at)) is not None), None)
    return None if isinstance(value, shape) else place
