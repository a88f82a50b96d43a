"""The version of a model: one of the registry, or a bundle in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from vcfbert.tracking.registry import RegisteredVersion

_REGISTRY = "models:"  # how references to the registry begin; all others are folders


@dataclass(frozen=True)
class FolderVersion:
    """A bundle in a folder, outside any registry."""

    folder: Path
    bundle_digest: str

    @property
    def reference(self) -> str:
        """The folder's absolute path."""
        return str(self.folder.resolve())


ModelVersion: TypeAlias = "RegisteredVersion | FolderVersion"


def is_registered(reference: str) -> bool:
    """Whether ``reference`` names a model of the registry, not a folder."""
    return reference.startswith(_REGISTRY)


def version_name(version: ModelVersion) -> str:
    """What clients call the version: its number in the registry, or the start of its bundle's digest."""
    return version.bundle_digest[:12] if isinstance(version, FolderVersion) else str(version.number)


def stored_version(reference: str, digest: str) -> ModelVersion:
    """The version whose ``reference`` and bundle digest were stored. A stored reference never names an
    alias."""
    if not is_registered(reference):
        return FolderVersion(Path(reference), digest)
    from vcfbert.tracking.registry import ModelReference, RegisteredVersion

    stored = ModelReference.parse(reference)
    assert stored.number is not None
    return RegisteredVersion(stored.name, stored.number, digest)
