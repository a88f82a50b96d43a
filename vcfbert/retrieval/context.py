"""One window as tensors, and batches of queries with what was retrieved for them. Training and inference share it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.constants import MASK_TOKEN, REF_TOKEN
from vcfbert.genotypes.encoding import WindowRows, distinct_rows
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import SiteContext, WindowBatch
from vcfbert.model.embedding import site_features

# A key of fewer typed sites than this reaches beyond its span to the nearest ones there are.
MINIMUM_KEY_SITES = 16


def memory_features(memory: ReferenceSubset, device: torch.device) -> Tensor:
    """Site features [n_sites, F] of the whole panel, with the memory's own allele frequencies."""
    return site_features(torch.from_numpy(memory.af).float(), torch.from_numpy(memory.panel.cm)).to(device)


def key_sites(window: Window, typed: npt.NDArray[np.int64], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The typed sites [t] that retrieve for a window: those of its retrieval window, or the nearest ones if few.

    ``typed``: the target's typed sites, ascending panel site indices.
    """
    low, high = np.searchsorted(typed, window.retrieval)
    if high - low >= MINIMUM_KEY_SITES or high - low == len(typed):
        return typed[low:high]
    distance = distance_from(window, typed, cm)
    nearest = np.argsort(distance, kind="stable")[:MINIMUM_KEY_SITES]
    return typed[np.sort(nearest)]


def distance_from(window: Window, sites: npt.NDArray[np.int64], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """cM from each site to the nearer edge of the window, 0 inside it."""
    position = cm[sites]
    return np.asarray(np.maximum(np.maximum(cm[window.start] - position, position - cm[window.stop - 1]), 0.0))


@dataclass(frozen=True)
class WindowContext:
    """A window, its typed key sites, and the memory's alleles at both, on one device."""

    sites: SiteContext
    key: Tensor  # int64 [t], panel sites of the key
    patterns: Tensor  # uint8 [u, l], the distinct rows of the memory in this window
    pattern_of: Tensor  # int64 [m], the pattern of each row of the memory
    key_alleles: Tensor  # uint8 [m, t], of the memory
    typed: Tensor  # bool [l], window sites that are typed
    typed_in_key: Tensor  # int64 [number typed in the window], their places in the key

    @classmethod
    def build(
        cls,
        memory: ReferenceSubset,
        features: Tensor,
        window: Window,
        key: npt.NDArray[np.int64],
        device: torch.device,
        rows: WindowRows | None = None,
    ) -> WindowContext:
        """``rows``: the memory's distinct rows in the window, where an ``Encoding`` has them ready."""
        rows = rows or distinct_rows(memory.alleles(window.sites))
        cm = memory.panel.cm
        middle = (cm[window.start] + cm[window.stop - 1]) / 2.0
        inside = (key >= window.start) & (key < window.stop)
        typed = np.zeros(window.stop - window.start, dtype=bool)
        typed[key[inside] - window.start] = True
        tensor = torch.from_numpy
        key_tensor = tensor(key).to(device)
        sites = SiteContext(
            features=features[window.sites],
            offset_cm=tensor(cm[window.sites] - middle).float().to(device),
            af=tensor(memory.af[window.sites]).float().to(device),
            key_features=features[key_tensor],
            key_distance_cm=tensor(distance_from(window, key, cm)).float().to(device),
            key_offset_cm=tensor(cm[key] - middle).float().to(device),
            key_af=tensor(memory.af[key]).float().to(device),
            key_place=key_tensor - window.start,
        )
        return cls(
            sites=sites,
            key=key_tensor,
            patterns=tensor(rows.patterns).to(device),
            pattern_of=tensor(rows.number).to(device),
            key_alleles=tensor(memory.alleles(key)).to(device),
            typed=tensor(typed).to(device),
            typed_in_key=tensor(np.flatnonzero(inside)).to(device),
        )

    def alleles(self, rows: Tensor) -> Tensor:
        """The window's alleles uint8 [n, l] of memory rows int64 [n]."""
        return self.patterns[self.pattern_of[rows]]

    def keeping(self, rows: Tensor) -> tuple[WindowContext, Tensor]:
        """The same window with those rows of the memory alone that ``rows`` names, and ``rows`` renumbered: what was
        not retrieved need not be encoded or compared."""
        used, renumbered = torch.unique(rows, return_inverse=True)
        patterns, pattern_of = torch.unique(self.pattern_of[used], return_inverse=True)
        kept = dataclasses.replace(
            self, patterns=self.patterns[patterns], pattern_of=pattern_of, key_alleles=self.key_alleles[used]
        )
        return kept, renumbered

    def batch(self, queries: Tensor, rows: Tensor, known: Tensor | None = None) -> WindowBatch:
        """``queries`` uint8 [2b, t] alleles at the key, two haplotypes a sample; ``rows`` int64 [2b, k] retrieved;
        ``known`` bool [2b, t], None where every call is there."""
        n, k = rows.shape
        tokens = torch.full((n, len(self.typed)), MASK_TOKEN, device=queries.device)
        shown = queries[:, self.typed_in_key].long() + REF_TOKEN
        sign = 1 - 2 * queries.to(torch.int8)
        if known is not None:
            shown = torch.where(known[:, self.typed_in_key], shown, MASK_TOKEN)
            sign = sign * known
        tokens[:, self.typed] = shown
        return WindowBatch(
            sites=self.sites,
            tokens=tokens.view(n // 2, 2, -1),
            patterns=self.patterns,
            retrieved=self.pattern_of[rows].view(n // 2, 2, k),
            key_sign=sign.view(n // 2, 2, -1),
            key_rows=self.key_alleles,
            key_retrieved=rows.view(n // 2, 2, k),
        )
