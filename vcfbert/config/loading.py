"""Builds configurations from ``params.yaml``, from built-in profiles and from assignments on the command line.

A profile (``vcfbert/profiles/*.yaml``) is a whole file of the same form as ``params.yaml``.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vcfbert.config.sections import Config
from vcfbert.config.yaml_text import parse_yaml, read_yaml
from vcfbert.errors import InputError

PROFILES = ("cpu", "gpu", "original")

_HINT = "see `vcfbert config show`"

# pydantic's error types in the words of YAML. ``{...}`` are the values that pydantic gives with the error.
_TEXTS = {
    "bool_type": "must be true or false",
    "dataclass_type": "must be a section of parameters",
    "dict_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "too_short": "must hold at least {min_length} value",
    "tuple_type": "must be a list",
    "value_error": "{error}",
}

T = TypeVar("T")


class _ShortRepr(reprlib.Repr):
    """Shows a value within a line. Aliases let a short YAML file hold a value of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlevel = 2

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"


_SHORT = _ShortRepr()


def build(cls: type[T], values: Mapping[Any, Any], where: str = "") -> T:
    """An instance of the dataclass ``cls`` from plain YAML values.

    ``where`` is the prefix of the parameters' names in errors, such as ``model.``. Raises InputError, which lists
    every problem.
    """
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        problems = [_problem(cls, detail, where) for detail in error.errors(include_url=False)]
    if len(problems) > 1:
        problems = [f"{len(problems)} problems", *(f"  {problem}" for problem in problems)]
    raise InputError("params_invalid", "\n".join(problems), hint=_HINT)


def _problem(cls: type, detail: ErrorDetails, where: str) -> str:
    """One line: the parameter's name, its value and what is allowed."""
    path = detail["loc"]
    name = where + ".".join(str(part) for part in path if part != "[key]")
    kind = detail["type"]
    if kind == "missing":
        return f"{name} is missing"
    shown = f"{name} is {_SHORT.repr(detail['input'])}"
    if kind in ("unexpected_keyword_argument", "invalid_key"):
        return f"{shown}: there is no such parameter; known: {', '.join(_known(cls, path[:-1]))}"
    text = _TEXTS.get(kind)
    return f"{shown}: {detail['msg'] if text is None else text.format(**detail.get('ctx', {}))}"


def _known(cls: type, path: Sequence[int | str]) -> list[str]:
    """Names of the parameters of ``cls``, or of its section at ``path``."""
    for part in path:
        cls = cls.__pydantic_fields__[part].annotation  # type: ignore[attr-defined]
    return [field.name for field in dataclasses.fields(cls)]


def load(path: Path) -> Config:
    """The configuration in a ``params.yaml``. Raises InputError."""
    values = read_yaml(path, missing="params_missing", hint="`vcfbert config show` prints a valid file")
    try:
        return build(Config, values)
    except InputError as error:
        raise InputError(error.code, error.what, where=str(path), hint=error.hint) from error


def profile_text(name: str) -> str:
    """The text of a built-in profile: cpu, gpu or original. Raises InputError."""
    if name not in PROFILES:
        raise InputError("params_invalid", f"profile is {name!r}: must be one of {', '.join(PROFILES)}", hint=_HINT)
    return (files("vcfbert") / "profiles" / f"{name}.yaml").read_text()


def profile(name: str) -> Config:
    """The configuration of a built-in profile. Raises InputError."""
    return with_overrides(name, ())


def with_overrides(name: str, assignments: Sequence[str], **sections: Mapping[str, Any]) -> Config:
    """A built-in profile with values replaced: first those of ``sections``, then those of ``assignments``.

    An assignment reads ``section.parameter=value``, with the value as in YAML. Raises InputError.
    """
    values = parse_yaml(profile_text(name))
    for section, changes in sections.items():
        values[section] |= changes
    for assignment in assignments:
        _assign(values, assignment)
    return build(Config, values)


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Sets one value of the nested ``values``, in place."""
    path, separator, text = assignment.partition("=")
    *parents, last = path.split(".")
    if not (separator and parents):
        raise _assignment_error(assignment, "must read section.parameter=value")
    place = values
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            raise _assignment_error(assignment, f"there is no section {parent}")
        place = place[parent]
    try:
        place[last] = parse_yaml(text)
    except ValueError as error:
        raise _assignment_error(assignment, "the value is not valid YAML") from error


def _assignment_error(assignment: str, rule: str) -> InputError:
    return InputError("params_invalid", f"--set is {_SHORT.repr(assignment)}: {rule}", hint=_HINT)
