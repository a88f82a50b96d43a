"""The contract of KeyIndex (vcfbert/retrieval/base.py), held by every implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny import panel_from_alleles, random_panel
from vcfbert.errors import InputError
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.base import KeyIndex
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.torch_index import TorchKeyIndex

Build = Callable[[ReferenceSubset, torch.Tensor], KeyIndex]


@pytest.fixture(params=[FaissKeyIndex.build, TorchKeyIndex], ids=["faiss", "torch"])
def build(request: pytest.FixtureRequest) -> Build:
    return request.param  # type: ignore[no-any-return]


def brute_force(
    reference: ReferenceSubset, weights: torch.Tensor, sites: torch.Tensor, coordinates: torch.Tensor
) -> torch.Tensor:
    """Squared distances [n, rows] in float64."""
    root = weights[sites].double().sqrt()
    keys = torch.from_numpy(reference.alleles(sites.numpy())).double() * root
    return (coordinates.double() * root)[:, None].sub(keys[None]).square().sum(dim=-1)


def test_search_of_three_rows_equals_hand_computation(build: Build) -> None:
    reference = ReferenceSubset(
        panel_from_alleles(np.array([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], np.uint8)), np.arange(4)
    )
    index = build(reference, torch.tensor([1.0, 4.0, 9.0]))
    distances, rows = index.search(torch.tensor([0, 2]), torch.tensor([[1.0, 1.0], [0.5, 0.0]]), 4)
    assert distances.tolist() == [pytest.approx([0, 0, 10, 10], abs=1e-5), pytest.approx([0.25, 0.25, 9.25, 9.25])]
    assert [sorted(r[:2]) for r in rows.tolist()] == [[1, 2], [0, 3]]
    assert (distances.dtype, rows.dtype, len(index)) == (torch.float32, torch.int64, 4)


@pytest.mark.parametrize("n_sites", [1, 2, 7, 40])  # odd and even: two codes share a byte
def test_search_equals_brute_force(build: Build, n_sites: int) -> None:
    panel = random_panel(15, n_sites, seed=n_sites)
    reference = ReferenceSubset(panel, np.array([0, 1, 4, 5, 6, 7, 12, 13, 28, 29]))
    weights = torch.rand(n_sites, generator=torch.Generator().manual_seed(1)) * 3
    index = build(reference, weights)
    sites = torch.arange(0, n_sites, 2)
    coordinates = torch.rand(25, len(sites), generator=torch.Generator().manual_seed(2))
    distances, rows = index.search(sites, coordinates, 6)
    expected = brute_force(reference, weights, sites, coordinates)
    assert (distances.diff(dim=1) >= 0).all()
    torch.testing.assert_close(distances.double(), expected.sort(dim=1).values[:, :6], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(expected.gather(1, rows), distances.double(), atol=1e-5, rtol=1e-5)
    assert all(len(set(r)) == 6 for r in rows.tolist())


def test_index_keeps_the_given_weights(build: Build) -> None:
    weights = torch.tensor([0.0, 1.0, 2.5, 1e-3, 40.0])
    index = build(ReferenceSubset(random_panel(3, 5), np.arange(6)), weights)
    torch.testing.assert_close(index.weights, weights, rtol=1e-5, atol=1e-7)


def test_refresh_changes_the_ranking_and_keeps_the_alleles(build: Build) -> None:
    reference = ReferenceSubset(panel_from_alleles(np.array([[1, 0], [0, 1]], np.uint8)), np.arange(2))
    index = build(reference, torch.tensor([4.0, 1.0]))
    query, sites = torch.tensor([[0.0, 0.0]]), torch.tensor([0, 1])
    assert index.search(sites, query, 2)[1].tolist() == [[1, 0]]
    index.refresh(torch.tensor([1.0, 4.0]))
    distances, rows = index.search(sites, query, 2)
    assert rows.tolist() == [[0, 1]]
    assert distances.tolist() == [pytest.approx([1.0, 4.0])]


def test_allele_of_one_half_leaves_the_ranking_unchanged(build: Build) -> None:
    reference = ReferenceSubset(panel_from_alleles(np.array([[1, 0], [0, 1]], np.uint8)), np.arange(2))
    index = build(reference, torch.tensor([9.0, 1.0]))
    distances, rows = index.search(torch.tensor([0, 1]), torch.tensor([[0.5, 1.0]]), 2)
    assert rows.tolist() == [[1, 0]]
    assert (distances[0, 1] - distances[0, 0]).item() == pytest.approx(1.0)


def test_search_without_typed_site_gives_equal_distances(build: Build) -> None:
    index = build(ReferenceSubset(random_panel(3, 5), np.arange(6)), torch.ones(5))
    distances, rows = index.search(torch.empty(0, dtype=torch.int64), torch.empty(2, 0), 3)
    assert distances.tolist() == [[0.0] * 3] * 2
    assert all(len(set(r)) == 3 and min(r) >= 0 and max(r) < 6 for r in rows.tolist())


@pytest.mark.parametrize("k", [0, 7])
def test_k_above_the_number_of_rows_is_refused(build: Build, k: int) -> None:
    index = build(ReferenceSubset(random_panel(3, 5), np.arange(6)), torch.ones(5))
    with pytest.raises(InputError, match=f"cannot find {k} neighbours in an index of 6") as caught:
        index.search(torch.tensor([0]), torch.zeros(1, 1), k)
    assert caught.value.code == "retrieval_k"


@pytest.mark.parametrize(("n_rows", "n_sites"), [(203, 43), (1001, 250)])  # both have failed
def test_query_in_a_batch_gets_the_rows_it_gets_alone(build: Build, n_rows: int, n_sites: int) -> None:
    """Ties are the rule at few typed sites; which of the tied rows is taken must not depend on the batch."""
    rng = np.random.default_rng(0)
    founders = random_panel(n_rows // 10, n_sites, seed=n_sites).alleles(slice(None))
    panel = panel_from_alleles(founders[rng.integers(0, len(founders), size=n_rows // 2 * 2)])
    index = build(
        ReferenceSubset(panel, np.arange(panel.n_haplotypes)), torch.rand(n_sites, generator=torch.Generator()) + 0.1
    )
    sites = torch.arange(n_sites)
    queries = torch.from_numpy(panel.alleles(slice(None))).float() * 0.7 + 0.15
    _, together = index.search(sites, queries, 16)
    for batch in (1, 33):
        parts = [index.search(sites, queries[i : i + batch], 16)[1] for i in range(0, len(queries), batch)]
        assert torch.equal(torch.cat(parts), together)


def test_torch_and_faiss_indexes_rank_equally() -> None:
    panel = random_panel(50, 60, seed=6)
    reference = ReferenceSubset(panel, np.arange(100))
    weights = torch.rand(60, generator=torch.Generator().manual_seed(5)) + 0.1
    sites = torch.arange(60)
    queries = torch.from_numpy(panel.alleles(slice(None))).float()
    found = [b(reference, weights).search(sites, queries, 10) for b in (FaissKeyIndex.build, TorchKeyIndex)]
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found[0][1], found[1][1])


def test_saved_faiss_index_finds_the_same_rows(tmp_path: Path) -> None:
    panel = random_panel(10, 13, seed=7)
    reference = ReferenceSubset(panel, np.arange(20))
    index = FaissKeyIndex.build(reference, torch.rand(13, generator=torch.Generator().manual_seed(6)))
    index.save(tmp_path / "index")
    loaded = FaissKeyIndex.load(tmp_path / "index", n_rows=20, n_sites=13)
    sites, query = torch.arange(13), torch.rand(3, 13, generator=torch.Generator().manual_seed(7))
    for before, after in zip(index.search(sites, query, 5), loaded.search(sites, query, 5), strict=True):
        assert torch.equal(before, after)
