"""Batches of one window of a panel: its own haplotypes as queries, and what was retrieved for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import WindowBatch
from vcfbert.retrieval.context import WindowContext, reference_features


def window_over(panel: Panel, *, margin: int) -> Window:
    """One window over the panel but ``margin`` sites a side, which the retrieval window takes in."""
    start, stop = margin, panel.n_sites - margin
    return Window(0, (start, stop), start, stop, (0, panel.n_sites))


def context_of(panel: Panel, *, margin: int = 4, every: int = 3) -> WindowContext:
    """The window with every third site typed, in the window and beside it."""
    reference = ReferenceSubset(panel, np.arange(panel.n_haplotypes))
    key = np.arange(0, panel.n_sites, every)
    features = reference_features(reference, torch.device("cpu"))
    return WindowContext.build(reference, features, window_over(panel, margin=margin), key, torch.device("cpu"))


def batch_of(panel: Panel, *, b: int = 3, k: int = 5, seed: int = 0) -> WindowBatch:
    """b samples as queries, k haplotypes drawn at random as what was retrieved for each of their haplotypes."""
    context = context_of(panel)
    rows = torch.randint(panel.n_haplotypes, (2 * b, k), generator=torch.Generator().manual_seed(seed))
    return context.batch(context.key_alleles[: 2 * b], rows)


def retrieved_alleles(batch: WindowBatch) -> torch.Tensor:
    """uint8 [b, 2, k, l]: what the batch holds as patterns and numbers."""
    return batch.patterns[batch.retrieved]


def mismatches(batch: WindowBatch) -> torch.Tensor:
    """bool [b, 2, k, t]: where a typed allele of the query differs from the retrieved haplotype's."""
    alleles = (1 - batch.key_sign[:, :, None]) / 2  # 0 REF, 1 ALT, 1/2 unknown
    return (batch.key_sign[:, :, None] != 0) & (batch.key_rows[batch.key_retrieved] != alleles)


def with_untyped_alleles_changed(batch: WindowBatch) -> WindowBatch:
    """The same batch with other alleles of the retrieved haplotypes; the typed ones stay."""
    return dataclasses.replace(batch, patterns=1 - batch.patterns)
