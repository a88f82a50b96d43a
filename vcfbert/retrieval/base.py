"""Retrieval: the haplotypes of a reference subset that are nearest to a query, by its typed sites alone.

The distance of a query to a row of the reference subset is the sum of ``w_l g_l`` over the typed sites l where their
alleles differ. ``w_l`` is the metric's weight of the site and ``g_l`` in [0, 1] a factor for the window. The fixed
metric of V17 and the learned metric of V18 are this sum with different weights. V19 has no retriever: it copies
haplotypes of long IBS segments (``copying/states.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from vcfbert.errors import InputError
from vcfbert.model.fusion import RetrievalHeads


class KeyIndex(Protocol):
    """Exact nearest-neighbour search over the collapsed keys ``sqrt(w_l) * allele`` of a reference subset.

    The squared distance between flattened embeddings [l, dims] is sum_l |E(l, a) - E(l, b)|^2, and for two alleles each
    term is w_l or 0. So these keys rank exactly as the flattened embeddings do, at 1/dims of their memory and time.
    """

    weights: Tensor  # float32 [n_sites], the current w

    def __len__(self) -> int:
        """Rows searched."""

    def refresh(self, weights: Tensor) -> None:
        """Replaces the site weights [n_sites]. The stored alleles do not change."""

    def search(self, sites: Tensor, coordinates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k rows nearest to each of n queries over the key dimensions ``sites`` int64 [t].

        ``coordinates`` float32 [n, t] in units of sqrt(w): 0 is REF, 1 is ALT, and 1/2 is unknown, which is equally far
        from both alleles and so does not affect the ranking. Returns squared L2 distances float32 [n, k], ascending,
        and rows int64 [n, k]. Which of equally near rows are taken depends on the query alone, not on its batch.
        Raises InputError('retrieval_k') if k exceeds the number of rows.
        """

    def save(self, path: Path) -> None:
        """Writes the index in FAISS's format."""


class Retriever(ABC):
    """Ranks the rows of a reference subset for queries. A metric defines the site weights and ``profile``."""

    is_learned: ClassVar[bool] = False  # the metric is the model's: ``update`` replaces it and checkpoints keep it

    def __init__(self, index: KeyIndex) -> None:
        self.index = index

    @abstractmethod
    def profile(self, distance_cm: Tensor) -> Tensor:
        """[t] in [0, 1]: the factor g on the weights of sites that lie ``distance_cm`` [t] outside the window."""

    def update(self, heads: RetrievalHeads, weights: Tensor) -> None:
        """Replaces a learned metric by that of the model's ``heads`` and site ``weights`` float32 [n_sites].

        Raises TypeError if the metric is fixed.
        """
        raise TypeError(f"the metric of {type(self).__name__} is fixed")

    def snapshot(self) -> dict[str, Any]:
        """The learned metric, to resume training with: plain values and tensors. Raises TypeError as ``update``."""
        raise TypeError(f"the metric of {type(self).__name__} is fixed")

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Replaces the learned metric by that of a ``snapshot``. Raises TypeError as ``update``."""
        raise TypeError(f"the metric of {type(self).__name__} is fixed")

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
        """Rows int64 [n, k] of the reference subset, nearest first; [n, 0] if ``k`` is 0.

        ``sites`` int64 [t]: typed sites of the retrieval window. ``distance_cm`` float32 [t]: how far each lies outside
        the window. ``queries`` uint8 [n, t]: alleles there. ``known`` bool [n, t]: False where a query's call is
        missing. ``exclude`` int64 [n, e]: rows that a query must not get, such as its own; -1 for none. Raises
        InputError('retrieval_k') if fewer than k rows remain.
        """
        return nearest(self.index, sites, queries, self.profile(distance_cm), k, known, exclude)


def usable_k(k: int, n_rows: Iterable[int], *, n_excluded: int = 0) -> int:
    """``k``, or the most that can be retrieved from each of several reference subsets of ``n_rows`` haplotypes.

    ``n_excluded``: haplotypes that a query must not get, such as the two of its own sample.
    """
    return min(k, *(n - n_excluded for n in n_rows))


def check_enough(k: int, n_rows: int, n_excluded: int) -> None:
    """Raises InputError('retrieval_k') if ``k`` rows cannot be retrieved from ``n_rows`` less those excluded."""
    if k + n_excluded > n_rows:
        excluding = f", excluding {n_excluded}" if n_excluded else ""
        raise InputError(
            "retrieval_k",
            f"{k} haplotypes are to be retrieved from {n_rows}{excluding}",
            hint="lower retrieval.k, or use a larger panel",
        )


def no_rows(queries: Tensor) -> Tensor:
    """What retrieving no haplotype returns: int64 [n, 0]."""
    return torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)


def nearest(
    index: KeyIndex,
    sites: Tensor,
    queries: Tensor,
    profile: Tensor,
    k: int,
    known: Tensor | None,
    exclude: Tensor | None,
) -> Tensor:
    """Rows [n, k] ranked by sum_l w_l profile_l [q_l != r_l], without the excluded ones; shapes as in ``Retriever``.

    Moving a query's coordinate towards the midpoint of the two alleles puts a factor g on the site's weight, up to a
    constant: (r - 1/2 - g (q - 1/2))^2 = (1 - g)^2 / 4 + g [q != r]. So one index serves every mask and every window.
    """
    factor = profile.expand(len(queries), -1)
    if known is not None:
        factor = factor * known
    coordinates = 0.5 + factor * (queries.to(factor.dtype) - 0.5)
    extra = 0 if exclude is None else exclude.shape[1]
    check_enough(k, len(index), extra)
    if k == 0:
        return no_rows(queries)
    _, rows = index.search(sites, coordinates, k + extra)
    if exclude is None:
        return rows
    excluded = (rows[:, :, None] == exclude[:, None, :]).any(dim=-1)
    order = torch.argsort(excluded.to(torch.uint8), dim=1, stable=True)[:, :k]
    return rows.gather(1, order)
