"""The contract of Retriever (vcfbert/retrieval/base.py): what all keep to, and both metrics over both back ends against
brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks._ibs_segments import IbsSegmentRetriever
from benchmarks._random_retriever import RandomRetriever
from tests.helpers.tiny import perturbed, random_panel
from vcfbert.errors import InputError
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.v18 import V18
from vcfbert.retrieval.base import Retriever
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.refresh import build_retriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

PANEL = random_panel(20, 50, seed=2)
REFERENCE = ReferenceSubset(PANEL, np.arange(2, 36))
FEATURES = reference_features(REFERENCE, torch.device("cpu"))
SITES = torch.arange(0, 50, 2)
DISTANCE = torch.linspace(0.0, 0.3, 25).flip(0)
ALLELES = torch.from_numpy(REFERENCE.alleles(SITES.numpy()))  # [34, 25]
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


METRICS = ("v17-faiss", "v17-torch", "v18-faiss", "v18-torch")


def of_variant(name: str) -> Retriever:
    variant, backend = name.split("-")
    return build_retriever(perturbed(variant), REFERENCE, FEATURES, backend=backend, device=torch.device("cpu"))


@pytest.fixture(params=METRICS)
def case(request: pytest.FixtureRequest) -> tuple[Retriever, torch.Tensor]:
    return of_variant(request.param), hamming_costs() if request.param.startswith("v17") else learned_costs()


@pytest.fixture(params=[*METRICS, "ibs-segments", "random"])
def retriever(request: pytest.FixtureRequest) -> Retriever:
    index = TorchKeyIndex(REFERENCE, torch.ones(PANEL.n_sites))
    if request.param == "random":
        return RandomRetriever(index)
    if request.param == "ibs-segments":
        return IbsSegmentRetriever(index, REFERENCE)
    return of_variant(request.param)


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


def test_retrieved_rows_are_distinct_and_in_the_reference_subset(retriever: Retriever) -> None:
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7)
    assert (found.shape, found.dtype) == ((30, 7), torch.int64)
    assert int(found.min()) >= 0
    assert int(found.max()) < len(REFERENCE)
    assert all(len(set(rows)) == 7 for rows in found.tolist())


def test_k_of_zero_gives_no_rows(retriever: Retriever) -> None:
    exclude = torch.zeros(30, 2, dtype=torch.int64)
    for found in (retriever.retrieve(SITES, DISTANCE, QUERIES, 0, exclude=e) for e in (None, exclude)):
        assert (found.shape, found.dtype) == ((30, 0), torch.int64)


def test_query_in_a_batch_gets_the_rows_it_gets_alone(retriever: Retriever) -> None:
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7)
    assert torch.equal(retriever.retrieve(SITES, DISTANCE, QUERIES[11:13], 7), found[11:13])
    assert torch.equal(retriever.retrieve(SITES, DISTANCE, QUERIES.flip(0), 7), found.flip(0))


def test_value_stored_at_a_missing_call_is_ignored(retriever: Retriever) -> None:
    known = torch.rand(QUERIES.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    known[0] = False
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7, known=known)
    hidden = torch.where(known, QUERIES, 1 - QUERIES)
    assert torch.equal(found, retriever.retrieve(SITES, DISTANCE, hidden, 7, known=known))


def test_excluded_rows_are_never_retrieved(retriever: Retriever) -> None:
    exclude = retriever.retrieve(SITES, DISTANCE, QUERIES, 2)
    before = exclude[0].clone()
    exclude[0] = -1  # none
    exclude[1, 0] = -1
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 32, exclude=exclude)
    assert not (found[:, :, None] == exclude[:, None, :]).any()
    assert all(len(set(rows)) == 32 for rows in found.tolist())
    assert torch.equal(retriever.retrieve(SITES, DISTANCE, QUERIES, 2, exclude=exclude)[0], before)


def test_k_above_the_eligible_rows_is_refused(retriever: Retriever) -> None:
    assert retriever.retrieve(SITES, DISTANCE, QUERIES, 34).shape == (30, 34)
    with pytest.raises(InputError) as caught:
        retriever.retrieve(SITES, DISTANCE, QUERIES, 35)
    assert caught.value.code == "retrieval_k"
    with pytest.raises(InputError, match="33 haplotypes are to be retrieved from 34, excluding 2"):
        retriever.retrieve(SITES, DISTANCE, QUERIES, 33, exclude=torch.zeros(30, 2, dtype=torch.int64))


def test_retriever_finds_the_nearest_rows(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    assert_nearest(retriever.retrieve(SITES, DISTANCE, QUERIES, 7), distances(costs))


def test_missing_calls_add_no_distance(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    known = torch.rand(QUERIES.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7, known=known)
    assert_nearest(found, distances(costs, known))


def test_exclusion_leaves_the_nearest_of_the_other_rows(case: tuple[Retriever, torch.Tensor]) -> None:
    retriever, costs = case
    exclude = retriever.retrieve(SITES, DISTANCE, QUERIES, 2)
    exclude[0] = -1
    expected = distances(costs)
    for query, rows in enumerate(exclude.tolist()):
        expected[query, [r for r in rows if r >= 0]] = torch.inf
    assert_nearest(retriever.retrieve(SITES, DISTANCE, QUERIES, 7, exclude=exclude), expected)


def test_random_retriever_samples_evenly_and_by_its_seed() -> None:
    index = TorchKeyIndex(REFERENCE, torch.ones(PANEL.n_sites))
    queries = torch.randint(2, (2000, len(SITES)), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    rows = RandomRetriever(index).retrieve(SITES, DISTANCE, queries, 5)
    counts = torch.bincount(rows.flatten(), minlength=len(REFERENCE)).double()
    expected = 2000 * 5 / len(REFERENCE)
    assert float((counts - expected).abs().max()) < 5 * expected**0.5
    assert not torch.equal(rows, RandomRetriever(index, seed=1).retrieve(SITES, DISTANCE, queries, 5))
    assert not torch.equal(rows, RandomRetriever(index).retrieve(SITES + 1, DISTANCE, queries, 5))
