"""Retrieval by IBS segments: missing calls and excluded rows. copying/test_pbwt.py tests the selection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks._ibs_segments import IbsSegmentRetriever
from tests.helpers.tiny import panel_from_alleles, random_panel
from vcfbert.copying.pbwt import PanelOrder
from vcfbert.errors import InputError
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.torch_index import TorchKeyIndex

PANEL = random_panel(20, 50, seed=2)
REFERENCE = ReferenceSubset(PANEL, np.arange(2, 36))
SITES = torch.arange(0, 50, 2)
DISTANCE = torch.zeros(25)
QUERIES = torch.from_numpy(PANEL.alleles(SITES.numpy())[:30])


def retriever_of(reference: ReferenceSubset) -> IbsSegmentRetriever:
    return IbsSegmentRetriever(TorchKeyIndex(reference, torch.ones(reference.panel.n_sites)), reference)


def test_rows_equal_states_at_key_sites() -> None:
    found = retriever_of(REFERENCE).retrieve(SITES, DISTANCE, QUERIES, 7)
    assert (found.shape, found.dtype) == ((30, 7), torch.int64)
    cm = PANEL.cm[SITES.numpy()]
    order = PanelOrder.build(REFERENCE.bits(SITES.numpy()), cm)
    expected = order.phased_states(QUERIES.numpy().T.astype(np.int8).copy(), 7)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_longest_segment_ranks_first_by_hand() -> None:
    """Of four haplotypes the second matches at the first six sites and nowhere else, the third at every other pair."""
    alleles = np.array([[1] * 10, [0] * 6 + [1] * 4, [0, 0, 1, 0, 0, 1, 0, 0, 1, 0], [1] * 10], np.uint8)
    retriever = retriever_of(ReferenceSubset(panel_from_alleles(alleles), np.arange(4)))
    found = retriever.retrieve(torch.arange(10), torch.zeros(10), torch.zeros(1, 10, dtype=torch.uint8), 1)
    assert found.tolist() == [[1]]


def test_missing_calls_do_not_end_segments() -> None:
    retriever = retriever_of(REFERENCE)
    known = torch.rand(QUERIES.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    found = retriever.retrieve(SITES, DISTANCE, QUERIES, 7, known=known)
    hidden = torch.where(known, QUERIES, 1 - QUERIES)
    assert torch.equal(found, retriever.retrieve(SITES, DISTANCE, hidden, 7, known=known))
    assert not torch.equal(found, retriever.retrieve(SITES, DISTANCE, QUERIES, 7))


def test_own_haplotype_is_retrieved_unless_excluded() -> None:
    retriever = retriever_of(REFERENCE)
    own = torch.arange(28)  # queries 2.. are rows 0..
    found = retriever.retrieve(SITES, DISTANCE, QUERIES[2:], 3)
    assert (found == own[:, None]).any(dim=1).all()
    exclude = torch.stack([own, own ^ 1], dim=1)
    without = retriever.retrieve(SITES, DISTANCE, QUERIES[2:], 3, exclude=exclude)
    assert not (without[:, :, None] == exclude[:, None]).any()
    nobody = torch.full_like(exclude, -1)
    assert torch.equal(retriever.retrieve(SITES, DISTANCE, QUERIES[2:], 3, exclude=nobody), found)


def test_k_of_zero_gives_no_rows() -> None:
    for exclude in (None, torch.zeros(30, 2, dtype=torch.int64)):
        found = retriever_of(REFERENCE).retrieve(SITES, DISTANCE, QUERIES, 0, exclude=exclude)
        assert (found.shape, found.dtype) == ((30, 0), torch.int64)


def test_rows_do_not_depend_on_other_queries() -> None:
    retriever = retriever_of(REFERENCE)
    together = retriever.retrieve(SITES, DISTANCE, QUERIES, 5)
    alone = torch.cat([retriever.retrieve(SITES, DISTANCE, query[None], 5) for query in QUERIES])
    assert torch.equal(alone, together)


def test_k_beyond_subset_raises() -> None:
    retriever = retriever_of(REFERENCE)
    assert retriever.retrieve(SITES, DISTANCE, QUERIES, 34).tolist() == [list(range(34))] * 30
    with pytest.raises(InputError) as caught:
        retriever.retrieve(SITES, DISTANCE, QUERIES, 35)
    assert caught.value.code == "retrieval_k"
    with pytest.raises(InputError, match="33 haplotypes are to be retrieved from 34, excluding 2"):
        retriever.retrieve(SITES, DISTANCE, QUERIES, 33, exclude=torch.zeros(30, 2, dtype=torch.int64))
