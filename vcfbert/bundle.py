"""Bundles: a model with everything that imputation needs, in one folder.

    BUNDLE/manifest.json         variant, configuration, k, metrics, panel digest, provenance, sha256 of every file
           weights.safetensors   the model, one for all chromosomes
           panel/                the panel store: packed alleles and site tables
           index/00.faiss        V17 and V18, one per panel: its collapsed keys, with the weights of the distance

Training retrieves from the haplotypes of the training split alone. A bundle retrieves from the whole panel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from vcfbert.artifacts import atomic_folder, provenance, read_manifest
from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND, VARIANTS
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.encoding import hmm_windows
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels, panels_digest, write_panels
from vcfbert.genotypes.windows import Window

if TYPE_CHECKING:
    from vcfbert.config import Config
    from vcfbert.network_bundle import LoadedNetwork

WEIGHTS, PANEL = "weights.safetensors", "panel"


@dataclass(frozen=True)
class Part:
    """One panel of a bundle: a chromosome, or one of the three ploidy regions of X.

    ``reference``: the reference subset searched, here the whole panel.
    """

    reference: ReferenceSubset
    windows: list[Window]

    @property
    def panel(self) -> Panel:
        return self.reference.panel


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: one model, and its panels in the order of the panel store."""

    manifest: Mapping[str, Any]
    model: CopyingModel | LoadedNetwork
    parts: tuple[Part, ...]

    @property
    def variant(self) -> str:
        return str(self.manifest["variant"])

    @property
    def k(self) -> int:
        return int(self.manifest["k"])

    @property
    def takes_unphased(self) -> bool:
        """Whether targets may have unphased heterozygous calls."""
        return isinstance(self.model, CopyingModel)

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(part.panel for part in self.parts)

    @property
    def panel_digest(self) -> str:
        return str(self.manifest["panel_digest"])

    def part(self, panel_digest: str) -> Part:
        """The part with this panel digest. Raises KeyError."""
        return {part.panel.digest: part for part in self.parts}[panel_digest]


def whole_panel(panel: Panel) -> ReferenceSubset:
    """The reference subset that holds every haplotype of the panel."""
    return ReferenceSubset(panel, np.arange(panel.n_haplotypes))


def save_copying_model(
    out: Path,
    model: CopyingModel,
    panels: Sequence[Panel],
    config: Config,
    *,
    metrics: Mapping[str, float],
    data: Mapping[str, str],
) -> None:
    """Writes a bundle of V19 to ``out``; arguments as for ``bundle_folder``."""
    with bundle_folder(out, "v19", panels, config, metrics=metrics, data=data) as folder:
        (folder / WEIGHTS).write_bytes(save(model.as_arrays()))


@contextmanager
def bundle_folder(
    out: Path,
    variant: str,
    panels: Sequence[Panel],
    config: Config,
    *,
    metrics: Mapping[str, float],
    data: Mapping[str, str],
) -> Iterator[Path]:
    """Yields the folder of a new bundle, into which the caller writes the model; the panels are written here.

    ``metrics``: validation figures. ``data``: digests of the training data. Raises InputError where ``out`` cannot be
    written or is another kind of folder.
    """
    manifest = {
        "variant": variant,
        "k": min(config.retrieval.k[variant], *(panel.n_haplotypes for panel in panels)),
        "encode": dataclasses.asdict(config.encode),
        "model": dataclasses.asdict(config.model),
        "training": {
            name: section for name, section in config.as_dict().items() if name in ("retrieval", "masks", "train")
        },
        "metrics": dict(metrics),
        "panel_digest": panels_digest(panels),
        "data": dict(data),
        "provenance": provenance(),
    }
    with atomic_folder(out, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, manifest=manifest) as folder:
        yield folder
        write_panels(panels, folder / PANEL)


def load_bundle(path: Path, *, device: str = "cpu", verify: bool = True) -> Bundle:
    """Reads a bundle and checks its format version, panel digest and, with ``verify``, the sha256 of every file.

    ``device``: where a network runs, as torch names it, or 'auto'. V19 runs on the CPU. Raises ArtifactError where a
    check fails or the bundle is missing, unfinished or damaged.
    """
    manifest = read_manifest(path, kind=BUNDLE_KIND, version=BUNDLE_FORMAT, verify=verify)
    lacking = [name for name in ("variant", "k", "encode", "model", "panel_digest") if name not in manifest]
    if lacking:
        raise ArtifactError("bundle_damaged", f"the manifest lacks {', '.join(lacking)}", where=str(path))
    panels = open_panels(path / PANEL, verify=False)  # the bundle's manifest has their hashes
    if panels_digest(panels) != manifest["panel_digest"]:
        raise ArtifactError(
            "bundle_panel",
            f"holds panel {panels_digest(panels)[:12]} but was trained on panel {manifest['panel_digest'][:12]}",
            where=str(path),
            hint="copy the whole bundle again",
        )
    if manifest["variant"] not in VARIANTS:
        raise ArtifactError(
            "bundle_variant",
            f"unknown variant {manifest['variant']}",
            where=str(path),
            hint="use the version of vcfbert that wrote it, or a newer one",
        )
    if manifest["variant"] != "v19":
        from vcfbert.network_bundle import load_network  # imports torch and FAISS, which V19 does not need

        return load_network(path, manifest, panels, device=device)
    try:
        model = CopyingModel.from_arrays(load_file(path / WEIGHTS))
    except (SafetensorError, ValueError) as error:
        raise weights_damaged(path) from error
    encode = manifest["encode"]
    parts = [
        Part(whole_panel(panel), hmm_windows(panel, encode["copy_window"], encode["copy_span_cm"])) for panel in panels
    ]
    return Bundle(manifest, model, tuple(parts))


def weights_damaged(path: Path) -> ArtifactError:
    """The error of a bundle whose weights are not those of its manifest's model."""
    return ArtifactError(
        "bundle_damaged",
        f"{WEIGHTS} does not fit the model that the manifest describes",
        where=str(path),
        hint="copy the whole bundle again",
    )
