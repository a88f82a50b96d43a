"""One window as tensors, and batches of queries with the haplotypes retrieved for them, in training and inference."""

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
from vcfbert.genotypes.windows import Window, distance_from
from vcfbert.model.base import SiteContext, WindowBatch
from vcfbert.model.embedding import site_features


def reference_features(reference: ReferenceSubset, device: torch.device) -> Tensor:
    """Features float32 [n_sites, F] of the panel's sites, with the reference subset's own allele frequencies."""
    return site_features(torch.from_numpy(reference.af).float(), torch.from_numpy(reference.panel.cm)).to(device)


@dataclass(frozen=True)
class WindowContext:
    """A window, its key sites, and the reference subset's alleles at both, on one device.

    m rows of the reference subset, l sites of the window, t key sites, u distinct rows in the window.
    """

    sites: SiteContext
    key: Tensor  # int64 [t], panel site indices of the key sites
    patterns: Tensor  # uint8 [u, l], the distinct rows of the reference subset in this window
    pattern_of: Tensor  # int64 [m], the pattern of each row of the reference subset
    key_alleles: Tensor  # uint8 [m, t], of the reference subset
    typed: Tensor  # bool [l], window sites that are typed
    typed_in_key: Tensor  # int64 [typed sites of the window], their indices among the key sites

    @classmethod
    def build(
        cls,
        reference: ReferenceSubset,
        features: Tensor,
        window: Window,
        key: npt.NDArray[np.int64],
        device: torch.device,
        rows: WindowRows | None = None,
    ) -> WindowContext:
        """``features`` [n_sites, F]: ``reference_features``. ``key`` int64 [t]: panel site indices of the key sites.

        ``rows``: the reference subset's distinct rows in the window, if an ``Encoding`` has them; else they are found.
        """
        rows = rows or distinct_rows(reference.alleles(window.sites))
        cm = reference.panel.cm
        middle = (cm[window.start] + cm[window.stop - 1]) / 2.0
        inside = (key >= window.start) & (key < window.stop)
        typed = np.zeros(window.stop - window.start, dtype=bool)
        typed[key[inside] - window.start] = True
        tensor = torch.from_numpy
        key_tensor = tensor(key).to(device)
        sites = SiteContext(
            features=features[window.sites],
            offset_cm=tensor(cm[window.sites] - middle).float().to(device),
            af=tensor(reference.af[window.sites]).float().to(device),
            key_features=features[key_tensor],
            key_distance_cm=tensor(distance_from(window, key, cm)).float().to(device),
            key_offset_cm=tensor(cm[key] - middle).float().to(device),
        )
        return cls(
            sites=sites,
            key=key_tensor,
            patterns=tensor(rows.patterns).to(device),
            pattern_of=tensor(rows.number).to(device),
            key_alleles=tensor(reference.alleles(key)).to(device),
            typed=tensor(typed).to(device),
            typed_in_key=tensor(np.flatnonzero(inside)).to(device),
        )

    def alleles(self, rows: Tensor) -> Tensor:
        """Alleles uint8 [n, l] of ``rows`` int64 [n] of the reference subset at the window's sites."""
        return self.patterns[self.pattern_of[rows]]

    def keeping(self, rows: Tensor) -> tuple[WindowContext, Tensor]:
        """The same window with only the reference rows that occur in ``rows``, and ``rows`` renumbered accordingly.

        Rows that were not retrieved then need not be encoded or compared.
        """
        used, renumbered = torch.unique(rows, return_inverse=True)
        patterns, pattern_of = torch.unique(self.pattern_of[used], return_inverse=True)
        kept = dataclasses.replace(
            self, patterns=self.patterns[patterns], pattern_of=pattern_of, key_alleles=self.key_alleles[used]
        )
        return kept, renumbered

    def batch(self, queries: Tensor, rows: Tensor, known: Tensor | None = None) -> WindowBatch:
        """A batch of b queries.

        ``queries`` uint8 [2b, t]: alleles at the key sites, two haplotypes per query. ``rows`` int64 [2b, k]: retrieved
        rows. ``known`` bool [2b, t]: False where a call is missing; None if none is.
        """
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
