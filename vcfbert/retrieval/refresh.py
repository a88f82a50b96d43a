"""Refresh: the memory's embeddings and index, computed again from the current weights.

Thanks to the collapsed keys nothing is re-encoded: one pass of a small MLP over the sites gives the new table and
weights, and the index takes them as its scale (docs: design, fact 2).
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
from vcfbert.model.v18 import V18
from vcfbert.retrieval.base import KeyIndex, Retriever
from vcfbert.retrieval.embedding import EmbeddingRetriever, site_weights
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.ibs_segments import IbsSegmentRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex


@dataclass(frozen=True)
class Probe:
    """Queries of one window on which refreshes are compared; the arguments of ``Retriever.retrieve``."""

    sites: Tensor
    distance_cm: Tensor
    queries: Tensor


@dataclass(frozen=True)
class RefreshReport:
    version: int  # of the index; 0 is the initial one
    seconds: float
    drift: float  # mean |new - old| of the site weights, in units of their old mean
    overlap: float  # share of the probe's nearest rows that were among its nearest before


def joint_report(reports: Sequence[RefreshReport]) -> RefreshReport:
    """Of one refresh of several panels' retrievers: all seconds, mean drift and overlap."""
    mean = {name: fmean(getattr(report, name) for report in reports) for name in ("drift", "overlap")}
    return RefreshReport(reports[0].version, sum(report.seconds for report in reports), **mean)


def build_index(memory: ReferenceSubset, weights: Tensor, *, backend: str, device: torch.device) -> KeyIndex:
    """``backend``: faiss, torch, or auto: torch on a GPU, where moving keys costs more than searching them."""
    if backend == "torch" or (backend == "auto" and device.type == "cuda"):
        return TorchKeyIndex(memory, weights)
    return FaissKeyIndex.build(memory, weights)


def build_retriever(
    model: Variant, memory: ReferenceSubset, features: Tensor, *, backend: str = "auto", device: torch.device
) -> Retriever:
    """The retriever that a variant uses, with the model's current metric. ``features`` [n_sites, F]."""
    index = build_index(memory, torch.ones(memory.panel.n_sites), backend=backend, device=device)
    return attach_retriever(model, index, memory, features, update=True)


def attach_retriever(
    model: Variant, index: KeyIndex, memory: ReferenceSubset, features: Tensor, *, update: bool
) -> Retriever:
    """The variant's retriever over an index of ``memory``; without ``update`` the index's weights stay in force."""
    if model.is_hmm:
        return IbsSegmentRetriever(index, memory)
    heads = model.retrieval_heads
    if heads is None:
        return HammingRetriever(index)
    retriever = EmbeddingRetriever(index, heads)
    if update:
        index.refresh(site_weights(model, features))
    return retriever


def refresh(
    model: V18,
    retriever: Retriever,
    features: Tensor,
    probes: list[Probe],
    *,
    k: int,
    version: int,
    rank: int = 0,
    world: int = 1,
) -> RefreshReport:
    """Brings the retriever up to the model's weights and says what changed. Of several ranks all call it."""
    before = [retriever.retrieve(p.sites, p.distance_cm, p.queries, k) for p in probes]
    old = retriever.index.weights.cpu().clone()  # a resumed run's lie on the CPU, new ones where the model is
    started = time.perf_counter()
    retriever.update(model.retrieval, site_weights(model, features, rank=rank, world=world))
    seconds = time.perf_counter() - started
    new = retriever.index.weights.cpu()
    drift = float((new - old).abs().mean() / old.mean().clamp(min=1e-12))
    after = [retriever.retrieve(p.sites, p.distance_cm, p.queries, k) for p in probes]
    kept = [(b[:, :, None] == a[:, None, :]).any(dim=1).float().mean() for b, a in zip(before, after, strict=True)]
    return RefreshReport(version, seconds, drift, float(torch.stack(kept).mean()) if kept else 1.0)
