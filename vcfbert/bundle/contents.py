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
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from safetensors.numpy import save

from vcfbert.artifacts import atomic_folder, provenance
from vcfbert.bundle.settings import damaged
from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import panels_digest, write_panels
from vcfbert.genotypes.windows import Window

if TYPE_CHECKING:
    from vcfbert.config import Config

WEIGHTS, PANEL, INDEX = "weights.safetensors", "panel", "index"


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


class Model(Protocol):
    """``CopyingModel`` of V19, ``LoadedNetwork`` of V17 or V18, or ``CompiledNetwork`` of V18."""

    @property
    def takes_unphased(self) -> bool:
        """Whether targets may have unphased heterozygous calls."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: one model, and its panels in the order of the panel store."""

    manifest: Mapping[str, Any]
    model: Model
    parts: tuple[Part, ...]

    @property
    def variant(self) -> str:
        return str(self.manifest["variant"])

    @property
    def k(self) -> int:
        return int(self.manifest["k"])

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


def weights_damaged(path: Path) -> ArtifactError:
    """The error of a bundle whose weights are missing, or not those of its manifest's model."""
    if not (path / WEIGHTS).is_file():
        return damaged(path, f"{WEIGHTS} is missing")
    return damaged(path, f"{WEIGHTS} does not fit the model that the manifest describes")
