"""Prediction of many queries in batches. Equal queries and equal retrieved haplotypes are computed once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vcfbert.model.base import Variant, WindowOutput
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import WindowContext


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
    """Yields the model's output for the ``queries`` uint8 [2n, t], ``batch_size`` samples at a time.

    ``known`` bool [2n, t]: the alleles that were called; None if all were. ``exclude``: as in ``Retriever.retrieve``.
    ``observe`` receives the seconds of the retrieval.

    The encoder runs once for each distinct retrieved haplotype of the window, and once for each distinct query of a
    batch. At array density half of the haplotypes of 200 samples equal another one.
    """
    distance = context.sites.key_distance_cm
    started = time.perf_counter()
    rows = retriever.retrieve(context.key, distance, queries, k, known=known, exclude=exclude)
    if observe is not None:
        observe(time.perf_counter() - started)
    context, rows = context.keeping(rows)
    encoded = model.encode_patterns(context.patterns, context.sites)
    for start in range(0, len(queries), 2 * batch_size):
        chunk = slice(start, start + 2 * batch_size)
        first, place = distinct_queries(queries[chunk], rows[chunk], None if known is None else known[chunk])
        first = first + start
        batch = context.batch(queries[first], rows[first], None if known is None else known[first])
        yield model(dataclasses.replace(batch, pairs=place.view(-1, 2)), encoded)


def distinct_queries(queries: Tensor, rows: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the index of the first of each group of equal queries, int64 [u], and each query's group, int64 [n].

    Two queries are equal if their alleles uint8 [n, t], the ``known`` alleles and the retrieved ``rows`` int64 [n, k]
    are equal: the model then predicts the same. Batches hold pairs, so ``u`` is made even by repeating the last index.
    """
    parts = [np.packbits(queries.cpu().numpy(), axis=1), rows.cpu().numpy().view(np.uint8)]
    if known is not None:
        parts.append(np.packbits(known.cpu().numpy(), axis=1))
    seen: dict[bytes, int] = {}
    place = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in np.concatenate(parts, axis=1)])
    first = np.unique(place, return_index=True)[1]
    if len(first) % 2:
        first = np.append(first, first[-1])
    return torch.from_numpy(first).to(queries.device), torch.from_numpy(place).to(queries.device)
