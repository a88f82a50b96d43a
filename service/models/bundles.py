"""Bundles as models of the service, from the registry or from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from vcfbert.artifacts import bundle_digest, check_files
from vcfbert.constants import BUNDLE_KIND
from vcfbert.errors import ArtifactError

from ..settings import Settings
from .copies import PrivateCopies, PrivateCopy
from .model import ImputeHooks, Model
from .version import FolderVersion, ModelVersion, is_registered

if TYPE_CHECKING:
    from vcfbert.imputation.files import Imputed, ImputeOptions
    from vcfbert.imputation.imputer import Imputer

Fingerprint = tuple[tuple[str, int, int, int, int], ...]  # path, inode, size, and times of change of each file
ObserveRetrieval = Callable[[str, float], None]  # receives the variant and the seconds of each search


class BundleSource:
    """``ModelSource`` of bundles. It imports MLflow and torch when first needed, because that takes seconds."""

    def __init__(self, settings: Settings, observe_retrieval: ObserveRetrieval | None = None) -> None:
        self._settings = settings
        self._observe_retrieval = observe_retrieval
        self._copies = PrivateCopies(settings.data)
        self._sound: dict[Path, Fingerprint] = {}  # of folders that were verified in this state

    def find(self, reference: str) -> ModelVersion:
        """The version that ``reference`` names now. A folder whose files changed is verified again."""
        if not is_registered(reference):
            folder = Path(reference)
            version = FolderVersion(folder, bundle_digest(folder))
            self._verify(folder)
            return version
        from vcfbert.tracking.model_cache import look_up

        return look_up(reference, cache=self._settings.cache)

    def find_cached(self, reference: str) -> ModelVersion | None:
        if not is_registered(reference):
            return None
        from vcfbert.tracking.model_cache import look_up_cached

        return look_up_cached(reference, cache=self._settings.cache)

    def load(self, version: ModelVersion, device_guard: AbstractContextManager[object] | None = None) -> Model:
        copy = self._copies.open(version.bundle_digest, partial(self._folder, version))
        if self._settings.bundle_key_files:
            self._check_signature(copy, version)
        return BundleModel(copy.folder, self._settings, self._observe_retrieval, device_guard, copy=copy)

    def _check_signature(self, copy: PrivateCopy, version: ModelVersion) -> None:
        """Raises ArtifactError if no key of the settings made the bundle's signature."""
        from vcfbert.bundle.signature import check_signature, read_public_key

        keys = [read_public_key(path) for path in self._settings.bundle_key_files]
        try:
            check_signature(copy.folder, keys)
        except ArtifactError:  # it may have been signed after it was copied
            copy.renew_signature(self._folder(version))
            check_signature(copy.folder, keys)

    def _verify(self, folder: Path) -> None:
        """Raises ArtifactError if the folder is damaged. Hashes it only if a file changed since it was sound."""
        found = fingerprint(folder)
        if self._sound.get(folder) != found:
            check_files(folder, BUNDLE_KIND)
            self._sound[folder] = found

    def _folder(self, version: ModelVersion) -> Path:
        if not isinstance(version, FolderVersion):
            from vcfbert.tracking.model_cache import fetch

            return fetch(version, cache=self._settings.cache)
        if bundle_digest(version.folder) != version.bundle_digest:
            raise ArtifactError(
                "bundle_changed",
                "the folder now holds another bundle",
                where=str(version.folder),
                hint="give each version a folder of its own",
            )
        return version.folder


def fingerprint(folder: Path) -> Fingerprint:
    """What changes if a file below ``folder`` is written, replaced or removed."""
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


class BundleModel:
    """``Model`` of a bundle. ``device_guard``: that of its imputer.

    ``copy``: what keeps ``folder`` in place; its files are then verified already.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        observe_retrieval: ObserveRetrieval | None = None,
        device_guard: AbstractContextManager[object] | None = None,
        *,
        copy: PrivateCopy | None = None,
    ) -> None:
        from vcfbert.bundle.load import load_bundle
        from vcfbert.imputation.imputer import Imputer

        self._copy = copy
        bundle = load_bundle(folder, device=settings.device, verify=copy is None, only_imputes=True)
        observe = None if observe_retrieval is None else partial(observe_retrieval, bundle.variant)
        kept_bytes = settings.kept_windows_mb * 1_000_000
        self.imputer: Imputer = Imputer(
            bundle,
            batch_size=settings.batch_size,
            kept_bytes=kept_bytes,
            device_guard=device_guard,
            threads=settings.threads,
            observe_retrieval=observe,
        )
        self._threads = settings.threads
        panels = bundle.panels
        self.info: Mapping[str, Any] = {
            "variant": bundle.variant,
            "panel_digest": bundle.panel_digest,
            "regions": [
                {"chrom": p.sites.chrom, "from": int(p.sites.pos[0]), "to": int(p.sites.pos[-1])} for p in panels
            ],
            "n_sites": sum(panel.n_sites for panel in panels),
            "n_haplotypes": max(panel.n_haplotypes for panel in panels),
            "metrics": dict(bundle.manifest["metrics"]),
        }

    def warm_up(self) -> None:
        """Imputes the first window for one of the panel's own samples."""
        import numpy as np

        from vcfbert.genotypes.sites import MatchedTarget

        part = self.imputer.bundle.parts[0]
        panel, window = part.panel, part.windows[0]
        site = np.arange(window.start, window.stop, 10)  # every tenth site is typed
        alleles = panel.alleles(site, panel.haplotypes_of([0])).T[:, None, :].astype(np.int8)  # [m, 1, 2]
        target = MatchedTarget(
            panel_digest=panel.digest,
            samples=(panel.samples[0],),
            panel_site=site,
            alleles=alleles,
            phased=np.ones((len(site), 1), dtype=bool),
            swapped=np.zeros(len(site), dtype=bool),
            id=np.full(len(site), ".", dtype=object),
        )
        list(self.imputer.impute(target, sites=(0, 1)))

    def impute(self, target: Path, output: Path, options: ImputeOptions, **hooks: Unpack[ImputeHooks]) -> Imputed:
        from vcfbert.imputation.files import impute_file

        return impute_file(self.imputer, target, output, options, threads=self._threads, **hooks)
