"""The chain files that the service offers, which lift uploads of another genome build over to the panel's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcfbert.errors import InputError, VcfbertError

_OF_BUILDS: Final = ("wrong_build", "no_overlap")  # codes of errors that another build explains


@dataclass(frozen=True)
class Chain:
    """The chain file of a request: its name and path, None if the request has none. ``offered``: the names of all."""

    name: str | None
    path: Path | None
    offered: tuple[str, ...]

    @classmethod
    def named(cls, name: str | None, chains: Mapping[str, Path]) -> Chain:
        """The one of ``chains`` of this name. Raises InputError('chain_unknown')."""
        if name and name not in chains:
            names = ", ".join(chains)
            raise InputError(
                "chain_unknown",
                f"no chain file {name!r} is offered",
                hint=f"names: {names}; see /v1/models" if names else "this service offers no chain file",
            )
        return cls(name or None, chains[name] if name else None, tuple(chains))

    @property
    def file(self) -> str | None:
        """The path as ``ImputeOptions`` takes it."""
        return None if self.path is None else str(self.path)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Changes errors raised within the block by ``explain``."""
        try:
            yield
        except VcfbertError as error:
            self.explain(error)
            raise

    def explain(self, error: VcfbertError) -> None:
        """Changes the error to name the chain file as callers do, and to say which ones are offered."""
        if self.path is not None and error.where and error.where.startswith(str(self.path)):
            error.where = f"chain file {self.name}"
        elif self.path is None and error.code in _OF_BUILDS:
            names = ", ".join(self.offered)
            error.hint = (
                f"if it is of another genome build, choose a chain file (field `chain`): {names}"
                if names
                else "lift it over to the panel's genome build, or ask the operator to offer a chain file"
            )
