"""The contract of Retriever (vcfbert/retrieval/base.py): both metrics over both back ends, against brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.helpers.tiny import perturbed, random_panel
from vcfbert.errors import InputError
from vcfbert.genotypes.memory import Memory
from vcfbert.model.v18 import V18
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import memory_features
from vcfbert.retrieval.refresh import build_retriever

PANEL = random_panel(20, 50, seed=2)
MEMORY = Memory(PANEL, np.arange(2, 36))
FEATURES = memory_features(MEMORY, torch.device("cpu"))
SITES = torch.arange(0, 50, 2)
DISTANCE = torch.linspace(0.0, 0.3, 25).flip(0)
ALLELES = torch.from_numpy(MEMORY.alleles(SITES.numpy()))  # [34, 25]
QUERIES = torch.from_numpy(PANEL.alleles(SITES.numpy())[:30])

Costs = Callable[[], torch.Tensor]


def hamming_costs() -> torch.Tensor:
    return torch.ones(len(SITES))


def learned_costs() -> torch.Tensor:
    """[t]: what a mismatch costs, summed over the model's retrieval heads as the model itself does."""
    model = perturbed("v18")
    assert isinstance(model, V18)
    with torch.no_grad():
        weights = model.embedding.allele_weights(FEATURES[SITES])
        return model.retrieval.site_weights(weights, DISTANCE).sum(dim=0)


@pytest.fixture(params=["v17-faiss", "v17-torch", "v18-faiss", "v18-torch"])
def case(request: pytest.FixtureRequest) -> tuple[Retriever, torch.Tensor]:
    variant, backend = request.param.split("-")
    retriever = build_retriever(perturbed(variant), MEMORY, FEATURES, backend=backend, device=torch.device("cpu"))
    return retriever, hamming_costs() if variant == "v17" else learned_costs()


def distances(costs: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """[n, rows] by comparing every allele."""
    differ = (QUERIES[:, None, :] != ALLELES[None]) & (True if known is None else known[:, None, :])
    return (differ * costs.double()).sum(dim=-1)


def assert_nearest(found: torch.Tensor, expected: torch.Tensor) -> None:
    """``found`` rows [n, k] are in order and no nearer one is missing, ties aside. ``expected`` [n, rows]."""
    k = found.shape[1]
    got = expected.gather(1, found)
    torch.testing.assert_close(got, expected.sort(dim=1).values[:, :k], atol=1e-4, rtol=1e-4)
    assert all(len(set(rows)) == k for rows in found.tolist())


def test_the_nearest_rows(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7)
    assert (found.shape, found.dtype) == ((30, 7), torch.int64)
    assert_nearest(found, distances(costs))


def test_missing_calls_count_nothing(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    known = torch.rand(QUERIES.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    known[0] = False
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7, known=known)
    assert_nearest(found, distances(costs, known))
    hidden = torch.where(known, QUERIES, 1 - QUERIES)  # whatever stands where the call is missing
    assert torch.equal(found, retriever.retrieve(SITES, DISTANCE, hidden, 7, known=known))


def test_excluded_rows_never_come(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    nearest = retriever.retrieve(SITES, DISTANCE, QUERIES, 2)
    exclude = nearest.clone()
    exclude[0] = -1  # none
    exclude[1, 0] = -1
    expected = distances(costs)
    for query, rows in enumerate(exclude.tolist()):
        expected[query, [r for r in rows if r >= 0]] = torch.inf
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7, exclude=exclude)
    assert_nearest(found, expected)
    assert torch.equal(found[0, :2], nearest[0])


def test_too_many_are_refused(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, _ = case
    assert retriever.retrieve(SITES, DISTANCE, QUERIES, 34).shape == (30, 34)
    with pytest.raises(InputError) as caught:
        retriever.retrieve(SITES, DISTANCE, QUERIES, 35)
    assert caught.value.code == "retrieval_k"
    with pytest.raises(InputError, match="33 haplotypes are to be retrieved from 34, leaving out 2"):
        retriever.retrieve(SITES, DISTANCE, QUERIES, 33, exclude=torch.zeros(30, 2, dtype=torch.int64))
