"""Bundles: a model with everything that imputation needs, in one folder.

    BUNDLE/manifest.json         variant, configuration, k, metrics, panel digest, provenance, sha256 of every file
           weights.safetensors   the model, one for all chromosomes
           panel/                the panel store: packed alleles and site tables
           index/00.faiss        one per panel: its collapsed keys, with the weights of the distance

Training retrieves from the haplotypes of the training split alone. A bundle retrieves from the whole panel. An
embedding is a function of sites, not of haplotypes, so it applies to held-out haplotypes without further training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vcfbert.artifacts import atomic_folder, provenance, read_manifest
from vcfbert.config import Config, EncodeConfig, ModelConfig, build
from vcfbert.constants import BUNDLE_FORMAT, BUNDLE_KIND
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.encoding import windows_of
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.store import open_panels, panels_digest, write_panels
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import Variant
from vcfbert.model.variants import VARIANT_CLASSES, create
from vcfbert.retrieval.base import KeyIndex, Retriever, usable_k
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.refresh import attach_retriever, build_retriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

WEIGHTS, INDEX, PANEL = "weights.safetensors", "index", "panel"


@dataclass(frozen=True)
class Part:
    """One panel of a bundle, ready for retrieval: a chromosome, or one of the three ploidy regions of X.

    ``reference``: the reference subset searched, here the whole panel. ``features`` float32 [n_sites, F]:
    site features, with the allele frequencies of that subset.
    """

    reference: ReferenceSubset
    windows: list[Window]
    retriever: Retriever
    features: Tensor

    @property
    def panel(self) -> Panel:
        return self.reference.panel


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle on one device: one model, and its panels in the order of the panel store."""

    manifest: Mapping[str, Any]
    model: Variant
    parts: tuple[Part, ...]
    device: torch.device

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


def save_bundle(
    out: Path,
    model: Variant,
    panels: Sequence[Panel],
    config: Config,
    *,
    metrics: Mapping[str, float],
    data: Mapping[str, str],
) -> None:
    """Writes the bundle ``out``. ``metrics``: validation figures. ``data``: digests of the training data.

    Raises InputError where ``out`` cannot be written or is another kind of folder.
    """
    device = next(model.parameters()).device
    manifest = {
        "variant": model.name,
        "k": usable_k(config.retrieval.k[model.name], [panel.n_haplotypes for panel in panels]),
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
        # Serialised to bytes first: the writer of safetensors does not report a full disk as such.
        (folder / WEIGHTS).write_bytes(save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}))
        (folder / INDEX).mkdir()
        for number, panel in enumerate(panels):
            reference = whole_panel(panel)
            retriever = build_retriever(
                model, reference, reference_features(reference, device), backend="faiss", device=device
            )
            retriever.index.save(folder / INDEX / f"{region_folder(number)}.faiss")
        write_panels(panels, folder / PANEL)


def load_bundle(path: Path, *, device: str = "cpu", verify: bool = True) -> Bundle:
    """Reads a bundle and checks its format version, panel digest and, with ``verify``, the sha256 of every file.

    Raises ArtifactError where a check fails or the bundle is missing, unfinished or damaged.
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
    if manifest["variant"] not in VARIANT_CLASSES:
        raise ArtifactError(
            "bundle_variant",
            f"unknown variant {manifest['variant']}",
            where=str(path),
            hint="use the version of vcfbert that wrote it, or a newer one",
        )
    target = torch.device(device)
    model = create(manifest["variant"], build(ModelConfig, manifest["model"], "model."))
    try:
        model.load_state_dict(load_file(path / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(
            "bundle_damaged",
            f"{WEIGHTS} does not fit the model that the manifest describes",
            where=str(path),
            hint="copy the whole bundle again",
        ) from error
    model.to(target).eval()
    encode = build(EncodeConfig, manifest["encode"], "encode.")
    parts = [
        _part(path / INDEX / f"{region_folder(number)}.faiss", model, panel, encode, target)
        for number, panel in enumerate(panels)
    ]
    return Bundle(manifest=manifest, model=model, parts=tuple(parts), device=target)


def _part(index_path: Path, model: Variant, panel: Panel, encode: EncodeConfig, device: torch.device) -> Part:
    reference = whole_panel(panel)
    features = reference_features(reference, device)
    index: KeyIndex = FaissKeyIndex.load(index_path, n_rows=len(reference), n_sites=panel.n_sites)
    if device.type == "cuda":
        index = TorchKeyIndex(reference, index.weights)
    return Part(
        reference=reference,
        windows=windows_of(panel, encode, is_hmm=model.is_hmm),
        retriever=attach_retriever(model, index, reference, features, update=False),
        features=features,
    )
