"""Loads the bundle of a V18 for imputation on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.numpy import load_file

from vcfbert.bundle.contents import INDEX, WEIGHTS, Bundle, Part, whole_panel
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.panel_writer import region_folder
from vcfbert.genotypes.windows import tile
from vcfbert.kernels import Floats, are_compiled
from vcfbert.model.compiled_v18 import CompiledV18, site_features
from vcfbert.retrieval.faiss_keys import FaissKeys, read_index

# Present where torch may find a GPU: of NVIDIA, in the Linux subsystem of Windows, and of AMD.
_GPUS: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))


@dataclass(frozen=True)
class SearchedPanel:
    """What V18 needs of one panel."""

    part: Part
    keys: FaissKeys

    @cached_property
    def features(self) -> Floats:
        """float32 [n_sites, F]: ``site_features``."""
        return site_features(self.part.reference.af, self.part.panel.cm)

    @cached_property
    def weights(self) -> Floats:
        """float32 [n_sites]: the index's site weights."""
        return self.keys.weights()


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled V18, with what it searches, by panel digest."""

    network: CompiledV18
    searched: Mapping[str, SearchedPanel]

    @property
    def takes_unphased(self) -> bool:
        return False


def runs_without_torch(variant: str, device: str) -> bool:
    """Whether a network of this variant imputes on ``device``, 'auto' included, in compiled code alone."""
    on_cpu = device == "cpu" or (device == "auto" and not any(path.exists() for path in _GPUS))
    return variant == "v18" and on_cpu and are_compiled()


def load_compiled(path: Path, manifest: Mapping[str, Any], panels: Sequence[Panel]) -> Bundle | None:
    """The bundle of V18 at ``path``. None if its weights cannot be used; ``load_network`` says why.

    Raises ArtifactError where an index does not fit.
    """
    model, encode = manifest["model"], manifest["encode"]
    try:
        weights = load_file(path / WEIGHTS)
        network = CompiledV18(weights, **{name: model[name] for name in ("dims", "layers", "heads", "mlp_ratio")})
        size = {"length": encode["window"], "flank": encode["flank"], "span_cm": encode["span_cm"]}
        windows = [tile(panel.cm, **size) for panel in panels]
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, ZeroDivisionError):
        return None
    searched = {}
    for number, (panel, own) in enumerate(zip(panels, windows, strict=True)):
        reference = whole_panel(panel)
        index = read_index(
            path / INDEX / f"{region_folder(number)}.faiss", n_rows=len(reference), n_sites=panel.n_sites
        )
        searched[panel.digest] = SearchedPanel(Part(reference, own), FaissKeys(index))
    return Bundle(manifest, CompiledNetwork(network, searched), tuple(one.part for one in searched.values()))
