"""Equal queries pass the model once, with the same predictions as if each passed it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.helpers.batches import batch_of, context_of
from tests.helpers.tiny import perturbed, random_panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation.query_batches import distinct_queries, predict_batches
from vcfbert.model.variants import create
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

PANEL = random_panel(12, 80, seed=2)


def as_uint8(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


def test_distinct_queries_by_hand() -> None:
    queries = as_uint8([[0, 1], [1, 1], [0, 1], [0, 0]])
    rows = torch.tensor([[4], [4], [4], [4]])
    first, place = distinct_queries(queries, rows, None)
    assert first.tolist() == [0, 1, 3, 3]  # three distinct queries; the last is repeated for an even number
    assert place.tolist() == [0, 1, 0, 2]


def test_queries_differing_in_rows_or_missing_calls_are_distinct() -> None:
    queries = as_uint8([[0, 1], [0, 1], [0, 1], [0, 1]])
    rows = torch.tensor([[4, 2], [4, 3], [4, 2], [4, 2]])
    known = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    first, place = distinct_queries(queries, rows, known)
    assert first.tolist() == [0, 1, 2, 2]
    assert place.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_repeated_queries_are_predicted_as_alone(variant: str) -> None:
    model = perturbed(variant).eval()
    reference = ReferenceSubset(PANEL, np.arange(PANEL.n_haplotypes))
    retriever = HammingRetriever(TorchKeyIndex(reference, torch.ones(PANEL.n_sites)))
    context = context_of(PANEL)
    own = torch.tensor([0, 3, 3, 0, 5, 5, 0, 3, 7, 0])  # five samples, four distinct haplotypes
    queries = context.key_alleles[own]
    known = torch.ones_like(queries, dtype=torch.bool)
    known[8, 2] = False

    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].tokens.shape[0]))
    with torch.inference_mode():
        together = list(predict_batches(model, retriever, context, queries, known, k=3, batch_size=5))
        alone = [
            next(predict_batches(model, retriever, context, queries[s : s + 2], known[s : s + 2], k=3, batch_size=1))
            for s in range(0, len(own), 2)
        ]
    whole = together[0]
    assert whole.probability.shape[0] == whole.genotype.shape[0] == 5
    assert seen[0] == 2  # four distinct haplotypes, as two pairs
    torch.testing.assert_close(whole.probability, torch.cat([one.probability for one in alone]))
    torch.testing.assert_close(whole.genotype, torch.cat([one.genotype for one in alone]))


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_pairs_select_haplotypes_of_the_batch(variant: str) -> None:
    model, batch = perturbed(variant).eval(), batch_of(PANEL, b=2)
    whole = model(batch)
    swapped = model(dataclasses.replace(batch, pairs=torch.tensor([[3, 2], [0, 1], [2, 3]])))
    torch.testing.assert_close(swapped.logit[0], whole.logit[1].flip(0))
    torch.testing.assert_close(swapped.logit[1], whole.logit[0])
    torch.testing.assert_close(swapped.genotype[[0, 2]], whole.genotype[[1, 1]])  # symmetric in the haplotypes


def test_untrained_prediction_keeps_precision_under_bf16() -> None:
    """An untrained model predicts from distances, which are small differences of large sums."""
    panel = random_panel(60, 2500, seed=4)
    model, batch = create("v18", perturbed("v18").config), batch_of(panel, b=2, k=8)
    with torch.inference_mode():
        exact = model(batch).logit
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(batch).logit
    torch.testing.assert_close(rounded, exact)
