"""The protocols of models and of where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

from .version import ModelVersion

if TYPE_CHECKING:  # torch takes seconds to import: the service answers while the loading thread does that
    from vcfbert.genotypes.parsing.process import Parser
    from vcfbert.genotypes.qc import QcReport
    from vcfbert.imputation.files import Imputed, ImputeOptions
    from vcfbert.imputation.imputer import Imputer
    from vcfbert.imputation.progress import Progress


class ImputeHooks(TypedDict, total=False):
    """The optional arguments of ``vcfbert.imputation.files.impute_file`` that callers of a served model may give."""

    qc_report: Path | None
    kept: bool
    reported: Callable[[QcReport], None] | None
    begin: Callable[[int], None] | None
    progress: Progress | None
    cancelled: Callable[[], None] | None
    parser: Parser | None


class Model(Protocol):
    """A loaded model. It keeps no imputed data. Its imputer holds the device while it computes."""

    info: Mapping[str, Any]
    imputer: Imputer

    def warm_up(self) -> None:
        """Imputes once, because the first call allocates and compiles. Raises the error of a bad model."""

    def impute(self, target: Path, output: Path, options: ImputeOptions, **hooks: Unpack[ImputeHooks]) -> Imputed:
        """Imputes a file; see ``vcfbert.imputation.files.impute_file``."""
        ...


class ModelSource(Protocol):
    """Finds and loads models. Called from several threads."""

    def find(self, reference: str) -> ModelVersion:
        """The version that ``reference`` names now; nothing is downloaded. Raises VcfbertError: 'registry_unavailable'
        within seconds if the registry does not answer."""
        ...

    def find_cached(self, reference: str) -> ModelVersion | None:
        """The version that ``reference`` last named, as far as this machine knows, without asking the registry."""
        ...

    def load(self, version: ModelVersion, device_guard: AbstractContextManager[object] | None = None) -> Model:
        """Downloads the version if need be, verifies and loads it. ``device_guard``: that of its imputer; None if
        nothing else uses the device. Raises VcfbertError."""
        ...
