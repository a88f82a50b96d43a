"""Commands that load when they are called, and options that are read without pydantic: both start ``impute`` faster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ParameterInfo

# The modules of this room that define a command of their name, and those that define a group of commands, NAME_app.
COMMANDS: Final = ("fit", "impute", "qc", "evaluate", "compare", "simulate", "serve")
GROUPS: Final = ("panel", "bundle", "config", "data", "tune", "registry", "remote")
MARKUP: Final = "markdown"

# Settings of an option that leave its values as they are, or that ``_PlainOption`` obeys.
_OBEYED: Final = {"default", "param_decls", "help", "min", "max"}
_DEFAULTS: Final = vars(typer.Option())


class LazyGroup(TyperGroup):
    """All commands. The module of a command is imported when the command is called or its help is listed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing is added to it

    def get_help_option(self, ctx: Any) -> Any:
        return _never_converted(super().get_help_option(ctx))


class _Commands(Mapping[str, Any]):
    """Commands by name."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in (*COMMANDS, *GROUPS):
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = _load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*COMMANDS, *GROUPS))

    def __len__(self) -> int:
        return len(COMMANDS) + len(GROUPS)


def _load(name: str) -> Any:
    module = import_module(f"vcfbert.cli.{name}")
    parent = typer.Typer(rich_markup_mode=MARKUP)
    if name in COMMANDS:
        parent.command(cls=_PlainCommand)(getattr(module, name))
    else:
        parent.add_typer(getattr(module, f"{name}_app"), name=name)
    return typer.main.get_group(parent).commands[name]


class _PlainCommand(TyperCommand):
    """A command whose options of text, paths and numbers are read by ``_PlainOption`` where that suffices."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        hints = get_type_hints(self.callback, include_extras=True)
        for param in self.params:
            kind, info = _kind_of(hints[param.name or ""])
            if kind is not None:
                param.process_value = _PlainOption(param, kind, info)  # type: ignore[method-assign]

    def get_help_option(self, ctx: Any) -> Any:
        return _never_converted(super().get_help_option(ctx))


def _never_converted(flag: Any) -> Any:
    """Gives ``--help`` a default that typer takes as it is, where it would convert None."""
    if flag is not None:
        flag.default = False
    return flag


class _PlainOption:
    """Converts a value that is plainly valid. Any other goes to typer, which says what is wrong with it.

    typer converts by pydantic. Importing pydantic takes longer than imputing a sample.
    """

    def __init__(self, param: Any, kind: Callable[[str], Any], info: ParameterInfo | None) -> None:
        self._by_typer = param.process_value
        self._required = param.required
        self._kind, self._info = kind, info

    def __call__(self, ctx: Any, value: Any) -> Any:
        if isinstance(value, str):
            try:
                converted = self._kind(value)
            except ValueError:
                return self._by_typer(ctx, value)
            return converted if self._allows(converted) else self._by_typer(ctx, value)
        is_default = value is not None or not self._required
        return value if is_default else self._by_typer(ctx, value)

    def _allows(self, value: Any) -> bool:
        if isinstance(value, str):
            return True
        if isinstance(value, Path):  # typer refuses a file that it may not read
            return os.access(value, os.R_OK) or not os.path.lexists(value)
        low, high = (None, None) if self._info is None else (self._info.min, self._info.max)
        return (low is None or value >= low) and (high is None or value <= high)


def _kind_of(hint: Any) -> tuple[Callable[[str], Any] | None, ParameterInfo | None]:
    """The type and the settings of a parameter. The type is None if ``_PlainOption`` does not obey all of them."""
    info = None
    if get_origin(hint) is Annotated:
        hint, info = get_args(hint)[:2]
        if any(value != _DEFAULTS.get(name) for name, value in vars(info).items() if name not in _OBEYED):
            return None, info
    choices = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    kinds = [kind for kind in choices if kind is not type(None)]
    return (kinds[0] if len(kinds) == 1 and kinds[0] in (str, Path, int, float) else None), info
