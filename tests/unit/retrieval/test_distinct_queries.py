"""Equal queries pass the model once, with the same predictions as if each passed it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.batches import batch_of, context_of
from tests.helpers.tiny import perturbed, random_panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.imputation import query_batches
from vcfbert.imputation.query_batches import distinct_queries, predict_batches
from vcfbert.model.variants import create
from vcfbert.retrieval.hamming import HammingRetriever
from vcfbert.retrieval.torch_index import TorchKeyIndex

PANEL = random_panel(12, 80, seed=2)


def as_uint8(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


def test_distinct_queries_by_hand() -> None:
    first, place = distinct_queries(as_uint8([[0, 1], [1, 1], [0, 1], [0, 0]]), None, None)
    assert first.tolist() == [0, 1, 3]
    assert place.tolist() == [0, 1, 0, 2]


def test_queries_differing_in_excluded_rows_or_missing_calls_are_distinct() -> None:
    queries = as_uint8([[0, 1], [0, 1], [0, 1], [0, 1]])
    exclude = torch.tensor([[4, 2], [4, 3], [4, 2], [4, 2]])
    known = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    first, place = distinct_queries(queries, known, exclude)
    assert first.tolist() == [0, 1, 2]
    assert place.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_repeated_queries_are_predicted_as_alone(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = perturbed(variant).eval()
    reference = ReferenceSubset(PANEL, np.arange(PANEL.n_haplotypes))
    retriever = HammingRetriever(TorchKeyIndex(reference, torch.ones(PANEL.n_sites)))
    context = context_of(PANEL)
    own = torch.tensor([0, 3, 3, 0, 5, 5, 0, 3, 7, 0])  # five samples, four distinct haplotypes
    queries = context.key_alleles[own]
    known = torch.ones_like(queries, dtype=torch.bool)
    known[8, 2] = False

    seen: list[int] = []
    features_of = model.features
    monkeypatch.setattr(
        model, "features", lambda batch, encoded: seen.append(batch.tokens.shape[0]) or features_of(batch, encoded)
    )
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


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_predictions_do_not_depend_on_groups_of_samples(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of more haplotypes than fit are computed group by group."""
    model, context = perturbed("v18").eval(), context_of(PANEL)
    reference = ReferenceSubset(PANEL, np.arange(PANEL.n_haplotypes))
    retriever = HammingRetriever(TorchKeyIndex(reference, torch.ones(PANEL.n_sites)))
    queries = context.key_alleles[torch.tensor([0, 3, 3, 0, 5, 5, 0, 3, 7, 0])]

    def predicted(per_group: int) -> torch.Tensor:
        monkeypatch.setattr(query_batches, "_FEATURES_AT_ONCE", per_group * 2 * len(context.typed) * model.config.dims)
        with torch.inference_mode():
            parts = list(predict_batches(model, retriever, context, queries, None, k=3, batch_size=1))
        assert len(parts) == -(-5 // per_group)
        return torch.cat([part.probability for part in parts])

    torch.testing.assert_close(predicted(-(-5 // groups)), predicted(5), rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["v17", "v18"])
def test_pairs_select_haplotypes_of_the_batch(variant: str) -> None:
    model, batch = perturbed(variant).eval(), batch_of(PANEL, b=2)
    whole, pairs = model(batch), torch.tensor([[3, 2], [0, 1], [2, 3]])
    swapped = model.output(model.features(batch).of_pairs(pairs), batch.sites)
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
