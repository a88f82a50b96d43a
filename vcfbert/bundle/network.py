"""Bundles of V17 and V18: writes and reads the network's weights and its retrieval indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vcfbert.artifacts import MANIFEST
from vcfbert.bundle.contents import INDEX, WEIGHTS, Bundle, Part, bundle_folder, weights_damaged, whole_panel
from vcfbert.bundle.settings import damaged
from vcfbert.config import Config, EncodeConfig, ModelConfig, build
from vcfbert.errors import InputError
from vcfbert.genotypes.encoding import windows_of
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.base import Variant
from vcfbert.model.variants import create
from vcfbert.retrieval.base import KeyIndex, Retriever
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.refresh import attach_retriever, build_retriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

_Config = TypeVar("_Config")


@dataclass(frozen=True)
class Searched:
    """What a network needs of one panel. ``features`` float32 [n_sites, F]: ``reference_features``."""

    retriever: Retriever
    features: Tensor


@dataclass(frozen=True)
class LoadedNetwork:
    """A network on one device, with what it searches, by panel digest."""

    network: Variant
    searched: Mapping[str, Searched]
    device: torch.device

    @property
    def takes_unphased(self) -> bool:
        return False


def save_network(
    out: Path,
    network: Variant,
    panels: Sequence[Panel],
    config: Config,
    *,
    metrics: Mapping[str, float],
    data: Mapping[str, str],
) -> None:
    """Writes a bundle of V17 or V18 to ``out``; arguments as for ``bundle_folder``."""
    device = next(network.parameters()).device
    with bundle_folder(out, network.name, panels, config, metrics=metrics, data=data) as folder:
        # Serialised to bytes first: the writer of safetensors does not report a full disk as such.
        weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(weights))
        (folder / INDEX).mkdir()
        for number, panel in enumerate(panels):
            reference = whole_panel(panel)
            features = reference_features(reference, device)
            retriever = build_retriever(network, reference, features, backend="faiss", device=device)
            retriever.index.save(folder / INDEX / f"{region_folder(number)}.faiss")


def load_network(path: Path, manifest: Mapping[str, Any], panels: Sequence[Panel], *, device: str) -> Bundle:
    """The bundle of V17 or V18 at ``path``. Raises ArtifactError where weights or indexes do not fit."""
    target = torch_device(device)
    network = create(manifest["variant"], _section(ModelConfig, manifest, "model", path))
    try:
        network.load_state_dict(load_file(path / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise weights_damaged(path) from error
    network.to(target).eval()
    encode = _section(EncodeConfig, manifest, "encode", path)
    parts, searched = [], {}
    for number, panel in enumerate(panels):
        reference = whole_panel(panel)
        parts.append(Part(reference, windows_of(panel, encode)))
        index_path = path / INDEX / f"{region_folder(number)}.faiss"
        searched[panel.digest] = _searched(index_path, network, reference, target)
    return Bundle(manifest, LoadedNetwork(network, searched, target), tuple(parts))


def _section(config: type[_Config], manifest: Mapping[str, Any], name: str, path: Path) -> _Config:
    """A section of the manifest as configuration. Raises ArtifactError, not the error of a parameters file."""
    try:
        return build(config, manifest[name], f"{name}.")
    except InputError as error:
        raise damaged(path, f"{MANIFEST}: {error.what}") from error


def torch_device(name: str) -> torch.device:
    """The torch device of this name; 'auto' is a GPU if there is one. Raises InputError 'device_missing'."""
    present = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if present else "cpu")
    if name.startswith("cuda") and not present:
        what = "this machine has no CUDA device that torch can use"
        raise InputError("device_missing", what, hint="use --device cpu")
    return torch.device(name)


def _searched(index_path: Path, network: Variant, reference: ReferenceSubset, device: torch.device) -> Searched:
    features = reference_features(reference, device)
    index: KeyIndex = FaissKeyIndex.load(index_path, n_rows=len(reference), n_sites=reference.panel.n_sites)
    if device.type == "cuda":
        index = TorchKeyIndex(reference, index.weights)
    return Searched(attach_retriever(network, index, features, update=False), features)
