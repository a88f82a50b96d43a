"""Random retrieval: the baseline that shows what a metric gains."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from vcfbert.retrieval.base import KeyIndex, Retriever, check_enough


class RandomRetriever(Retriever):
    """Samples k haplotypes uniformly. The query's known alleles and the seed decide, so a query always gets the same
    rows."""

    def __init__(self, index: KeyIndex, seed: int = 0) -> None:
        super().__init__(index)
        self.seed = seed

    def profile(self, distance_cm: Tensor) -> Tensor:
        return torch.zeros_like(distance_cm)

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
        check_enough(k, len(self.index), 0 if exclude is None else exclude.shape[1])
        alleles = queries.cpu().numpy()
        if known is not None:
            alleles = np.where(known.cpu().numpy(), alleles, np.uint8(2))
        window = hashlib.blake2b(sites.cpu().numpy().tobytes(), digest_size=8, salt=self.seed.to_bytes(16))
        order = np.stack([self._order(window, row.tobytes()) for row in alleles])  # [n, rows]
        if exclude is not None:
            own = (order[:, :, None] == exclude.cpu().numpy()[:, None, :]).any(axis=2)
            order = np.take_along_axis(order, np.argsort(own, axis=1, kind="stable"), axis=1)
        return torch.from_numpy(order[:, :k].copy()).to(queries.device)

    def _order(self, window: hashlib.blake2b, query: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        digest = window.copy()
        digest.update(query)
        return np.random.default_rng(int.from_bytes(digest.digest())).permutation(len(self.index))
