"""Fixed retrieval (V19): the haplotypes that share the longest segments identical by state (IBS) with the query."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vcfbert.copying.pbwt import PanelOrder
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.base import KeyIndex, Retriever, check_enough, no_rows


class IbsSegmentRetriever(Retriever):
    """Ranks by the longest IBS segments (``copying/pbwt.py``), not by mismatches over the whole retrieval window.

    A haplotype that matches over a long segment is worth copying there, however much it differs elsewhere. Rows come in
    ascending order, not nearest first.
    """

    def __init__(self, index: KeyIndex, reference: ReferenceSubset) -> None:
        super().__init__(index)
        self.reference = reference

    def profile(self, distance_cm: Tensor) -> Tensor:
        return torch.ones_like(distance_cm)

    def retrieve(
        self,
        sites: Tensor,
        distance_cm: Tensor,
        queries: Tensor,
        k: int,
        *,
        known: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> Tensor:
        check_enough(k, len(self.reference), 0 if exclude is None else exclude.shape[1])
        if k == 0:
            return no_rows(queries)
        key, threads = sites.cpu().numpy(), torch.get_num_threads()
        order = PanelOrder.build(self.reference.bits(key), self.reference.panel.cm[key], threads=threads)
        observed = queries.cpu().numpy().astype(np.int8)
        if known is not None:
            observed[~known.cpu().numpy()] = -1
        rows = order.phased_states(
            np.ascontiguousarray(observed.T), k, None if exclude is None else exclude.cpu().numpy(), threads=threads
        )
        return torch.from_numpy(rows.astype(np.int64)).to(queries.device)
