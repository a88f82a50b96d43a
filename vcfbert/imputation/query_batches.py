"""Prediction of many queries in batches. Equal queries and equal retrieved haplotypes are computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vcfbert.model.base import Features, Variant, WindowOutput
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext

# Features of haplotypes x sites x dims that are held at once, of 4 bytes each.
_FEATURES_AT_ONCE: Final = 1 << 23


def predict_batches(
    model: Variant,
    retriever: Retriever,
    context: WindowContext,
    queries: Tensor,
    known: Tensor | None,
    *,
    k: int,
    batch_size: int,
    exclude: Tensor | None = None,
    observe: Callable[[float], None] | None = None,
) -> Iterator[WindowOutput]:
    """Yields the model's output for groups of the samples with the ``queries`` uint8 [2n, t], in order.

    ``batch_size``: samples that pass the network at once. ``known`` bool [2n, t]: the alleles that were called; None if
    all were. ``exclude``: as in ``Retriever.retrieve``. ``observe`` receives the seconds of the retrieval.

    Each distinct query is retrieved for once, and the encoder runs once for each distinct retrieved haplotype of the
    window and each distinct query. Wide networks and many samples are the exception: there queries are compared within
    groups of samples only, so that host memory stays bounded. At array density half of the haplotypes of 200 samples
    equal another one.
    """
    first, place = distinct_queries(queries, known, exclude)
    queries = queries[first]
    known, exclude = (None if one is None else one[first] for one in (known, exclude))
    started = time.perf_counter()
    rows = retriever.retrieve(context.key, context.sites.key_distance_cm, queries, k, known=known, exclude=exclude)
    if observe is not None:
        observe(time.perf_counter() - started)
    context, rows = context.keeping(rows)
    encoded = model.encode_patterns(context.patterns, context.sites)

    def features(some: Tensor) -> Features:
        """Features of the distinct queries ``some`` int64 [u]."""
        parts = []
        for chunk in torch.split(some, 2 * batch_size):
            even = torch.cat([chunk, chunk[-1:]]) if len(chunk) % 2 else chunk  # a batch holds pairs
            batch = context.batch(queries[even], rows[even], None if known is None else known[even])
            parts.append(model.features(batch, encoded))
        return Features.of_parts(parts)

    pairs = place.view(-1, 2)
    per_sample = 2 * len(context.typed) * model.config.dims
    for group in torch.split(pairs, max(batch_size, _FEATURES_AT_ONCE // per_sample)):
        distinct, renumbered = torch.unique(group, return_inverse=True)
        yield model.output_of_pairs(features(distinct), renumbered, context.sites, batch_size=batch_size)


def distinct_queries(queries: Tensor, known: Tensor | None, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the index of the first of each group of equal queries, int64 [u], and each query's group, int64 [n].

    Two queries are equal if their alleles uint8 [n, t], the ``known`` alleles bool [n, t] and the rows ``exclude``
    int64 [n, e] that they must not get are equal: the model then predicts the same.
    """
    parts = [np.packbits(queries.cpu().numpy(), axis=1)]
    if known is not None:
        parts.append(np.packbits(known.cpu().numpy(), axis=1))
    if exclude is not None:
        parts.append(np.ascontiguousarray(exclude.cpu().numpy()).view(np.uint8))
    seen: dict[bytes, int] = {}
    place = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in np.concatenate(parts, axis=1)])
    first = np.unique(place, return_index=True)[1]
    return torch.from_numpy(first).to(queries.device), torch.from_numpy(place).to(queries.device)
