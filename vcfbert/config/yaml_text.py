"""Reads YAML that a user wrote: plain values, each key once, every fault an InputError."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcfbert.errors import InputError

if TYPE_CHECKING:
    import yaml


def read_yaml(path: Path, *, missing: str, hint: str) -> dict[Any, Any]:
    """The mapping in a YAML file. ``missing``: code of the error of a file that cannot be read.

    Raises InputError ``missing`` and 'params_invalid'.
    """
    try:
        body = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(missing, what, where=str(path), hint="check the path") from error
    except ValueError as error:
        raise InputError("params_invalid", f"not valid YAML: {error}", where=str(path), hint=hint) from error
    if not isinstance(body, dict):
        raise InputError("params_invalid", "must hold sections of parameters", where=str(path), hint=hint)
    return body


def parse_yaml(text: str) -> Any:
    """The plain values of a YAML document. Raises ValueError, with one line of text, if it is not valid."""
    import yaml  # here, so that a bundle is opened without it

    class UniqueKeys(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            _check_keys(node)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, UniqueKeys)  # a SafeLoader: it builds plain values alone
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split()).replace('in "<unicode string>", ', "at ")) from error
    # PyYAML's constructors let the errors of int(), chr() and others through, as of a date with month 99.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"a number, date or character in it cannot be read ({error})") from error


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises ConstructorError if a key is given twice. YAML forbids it; PyYAML would keep the last value."""
    from yaml import ScalarNode
    from yaml.constructor import ConstructorError

    seen = set()
    for key, _ in node.value:
        if isinstance(key, ScalarNode):
            if (key.tag, key.value) in seen:
                raise ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
