"""Errors that a user can act on: what is wrong, where, and what to do.

Every error carries a stable ``code`` (scripts and the HTTP service rely on it) and the process exit code.
"""

from __future__ import annotations


class VcfbertError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.code = code
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(code, what)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text}\n  hint: {self.hint}"


class InputError(VcfbertError):
    """The user's input (file, option or parameter) cannot be used as it is."""

    exit_code = 2


class ArtifactError(InputError):
    """A stored artifact (panel store, bundle, ...) is damaged, unfinished, or of another format version."""


class ResourceError(VcfbertError):
    """The machine ran out of something: memory or disk."""

    exit_code = 3


class DiskFullError(ResourceError):
    """There is no room for the output. As with other bad outputs, the user chooses another place."""

    exit_code = 2


class MissingExtraError(VcfbertError):
    """An optional package is needed and not installed; the hint names the extra to install."""
