"""Errors that a user can act on: what is wrong, where, and what to do.

Every error has a stable ``code``, on which scripts and the HTTP service rely, and an exit code.
"""

from __future__ import annotations


class VcfbertError(Exception):
    """Base of all errors that are raised on purpose. ``exit_code``: exit code of the command line."""

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
    """The user's input (a file, option or parameter) cannot be used."""

    exit_code = 2


class ArtifactError(InputError):
    """A stored artifact, such as a bundle or a panel store, is damaged, unfinished or of another format version."""


class ResourceError(VcfbertError):
    """A resource is exhausted or unavailable: host memory, disk space, a worker or a service."""

    exit_code = 3


class DiskFullError(ResourceError):
    """The disk has no room for the output. The exit code is that of other outputs that cannot be written."""

    exit_code = 2


class MissingExtraError(VcfbertError):
    """An optional package is required and not installed. The hint names the extra to install."""
