from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.tiny import TINY_MODEL, random_panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.embedding import EmbeddingRetriever
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.refresh import Probe, build_index, build_retriever, refresh
from vcfbert.retrieval.torch_index import TorchKeyIndex

CPU = torch.device("cpu")
PANEL = random_panel(15, 30, seed=3)
REFERENCE = ReferenceSubset(PANEL, np.arange(30))
FEATURES = reference_features(REFERENCE, CPU)


def untrained() -> tuple[V18, EmbeddingRetriever, list[Probe]]:
    model = create("v18", TINY_MODEL)
    assert isinstance(model, V18)
    retriever = build_retriever(model, REFERENCE, FEATURES, device=CPU)
    assert isinstance(retriever, EmbeddingRetriever)
    queries = torch.from_numpy(PANEL.alleles(slice(None)))
    return model, retriever, [Probe(torch.arange(30), torch.zeros(30), queries)]


def test_refresh_of_unchanged_model_has_no_drift_and_full_overlap() -> None:
    model, retriever, probes = untrained()
    report = refresh(model, retriever, FEATURES, probes, k=5, version=1)
    assert (report.version, report.overlap) == (1, 1.0)
    assert report.drift == pytest.approx(0, abs=1e-5)
    assert report.seconds > 0


def test_drift_and_overlap_by_hand() -> None:
    """Doubled embeddings give four times the weights: drift 3, the same ranking. Then the ranking changes."""
    model, retriever, probes = untrained()
    with torch.no_grad():
        model.embedding.token.weight.mul_(2)
    report = refresh(model, retriever, FEATURES, probes, k=5, version=2)
    assert report.drift == pytest.approx(3.0, rel=1e-4)
    assert report.overlap == 1.0
    before = retriever.retrieve(probes[0].sites, probes[0].distance_cm, probes[0].queries, 5)
    with torch.no_grad():
        for layer in model.embedding.scale:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.normal_(generator=torch.Generator().manual_seed(1))
    report = refresh(model, retriever, FEATURES, probes, k=5, version=3)
    after = retriever.retrieve(probes[0].sites, probes[0].distance_cm, probes[0].queries, 5)
    kept = [len(set(a) & set(b)) / 5 for a, b in zip(before.tolist(), after.tolist(), strict=True)]
    assert report.overlap == pytest.approx(sum(kept) / len(kept))
    assert report.overlap < 1.0
    torch.testing.assert_close(retriever.index.weights, model.embedding.allele_weights(FEATURES).detach())


def test_build_retriever_returns_class_of_variant() -> None:
    assert isinstance(build_retriever(create("v17", TINY_MODEL), REFERENCE, FEATURES, device=CPU), HammingRetriever)
    assert isinstance(build_retriever(create("v18", TINY_MODEL), REFERENCE, FEATURES, device=CPU), EmbeddingRetriever)


def test_build_index_chooses_back_end_by_name_or_device() -> None:
    weights = torch.ones(30)
    for backend, device, expected in [
        ("auto", "cpu", FaissKeyIndex),
        ("auto", "cuda", TorchKeyIndex),
        ("torch", "cpu", TorchKeyIndex),
        ("faiss", "cuda", FaissKeyIndex),
    ]:
        assert isinstance(build_index(REFERENCE, weights, backend=backend, device=torch.device(device)), expected)
