"""Builds retrievers, and refreshes learned ones from the model's current weights.

A refresh re-encodes no haplotype: one pass of a small network over the sites gives the new site weights, which the
index takes as the scale of its keys (``KeyIndex``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.base import Variant
from vcfbert.retrieval.base import KeyIndex, Retriever
from vcfbert.retrieval.embedding import EmbeddingRetriever, site_weights
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex


@dataclass(frozen=True)
class Probe:
    """Queries in one window by which refreshes are compared: arguments of ``Retriever.retrieve``."""

    sites: Tensor
    distance_cm: Tensor
    queries: Tensor


@dataclass(frozen=True)
class RefreshReport:
    """What one refresh changed."""

    version: int  # of the index; 0 is the initial one
    seconds: float  # spent on the new weights, without the probes
    drift: float  # mean |new - old| of the site weights, divided by their old mean
    overlap: float  # fraction of the rows retrieved for the probes that were retrieved before the refresh too


def joint_report(reports: Sequence[RefreshReport]) -> RefreshReport:
    """One report on the refreshes of several panels: the sum of their seconds, and the means of drift and overlap."""
    mean = {name: fmean(getattr(report, name) for report in reports) for name in ("drift", "overlap")}
    return RefreshReport(reports[0].version, sum(report.seconds for report in reports), **mean)


def build_index(reference: ReferenceSubset, weights: Tensor, *, backend: str, device: torch.device) -> KeyIndex:
    """An index over all sites of the panel, with ``weights`` float32 [n_sites].

    ``backend``: 'faiss', 'torch', or 'auto', which is torch on a GPU, where moving keys costs more than searching them.
    """
    if backend == "torch" or (backend == "auto" and device.type == "cuda"):
        return TorchKeyIndex(reference, weights)
    return FaissKeyIndex.build(reference, weights)


def build_retriever(
    model: Variant, reference: ReferenceSubset, features: Tensor, *, backend: str = "auto", device: torch.device
) -> Retriever:
    """The variant's retriever over a new index, with the model's current metric. ``features`` [n_sites, F]."""
    index = build_index(reference, torch.ones(reference.panel.n_sites), backend=backend, device=device)
    return attach_retriever(model, index, features, update=True)


def attach_retriever(model: Variant, index: KeyIndex, features: Tensor, *, update: bool) -> Retriever:
    """The variant's retriever over ``index``. ``features`` [n_sites, F]: of the index's reference subset.

    If the metric is learned, ``update`` replaces the index's site weights by the model's current ones.
    """
    heads = model.retrieval_heads
    if heads is None:
        return HammingRetriever(index)
    retriever = EmbeddingRetriever(index, heads)
    if update:
        index.refresh(site_weights(model, features))
    return retriever


def refresh(
    model: Variant,
    retriever: Retriever,
    features: Tensor,
    probes: list[Probe],
    *,
    k: int,
    version: int,
    rank: int = 0,
    world: int = 1,
) -> RefreshReport:
    """Replaces the retriever's metric by the model's current one and reports the change. All ranks must call it.

    ``features`` [n_sites, F]; ``probes`` with ``k`` rows each measure the overlap.
    """
    before = [retriever.retrieve(p.sites, p.distance_cm, p.queries, k) for p in probes]
    old = retriever.index.weights.cpu().clone()  # on the CPU in a resumed run, else where the model is
    started = time.perf_counter()
    heads = model.retrieval_heads
    assert heads is not None
    retriever.update(heads, site_weights(model, features, rank=rank, world=world))
    seconds = time.perf_counter() - started
    new = retriever.index.weights.cpu()
    drift = float((new - old).abs().mean() / old.mean().clamp(min=1e-12))
    after = [retriever.retrieve(p.sites, p.distance_cm, p.queries, k) for p in probes]
    kept = [(b[:, :, None] == a[:, None, :]).any(dim=1).float().mean() for b, a in zip(before, after, strict=True)]
    return RefreshReport(version, seconds, drift, float(torch.stack(kept).mean()) if kept else 1.0)
