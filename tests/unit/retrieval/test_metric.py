"""The learned metric: it can leave Hamming distance, and collapsed keys rank as flattened embeddings do."""

from __future__ import annotations

import numpy as np
import torch

from tests.helpers.tiny import TINY_MODEL, perturbed, random_panel
from vcfbert.constants import MASK_TOKEN, REF_TOKEN
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create
from vcfbert.retrieval.base import nearest
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.embedding import EmbeddingRetriever, site_weights
from vcfbert.retrieval.refresh import build_index, build_retriever

CPU = torch.device("cpu")
PANEL = random_panel(15, 30, seed=3)
REFERENCE = ReferenceSubset(PANEL, np.arange(30))
FEATURES = reference_features(REFERENCE, CPU)
SITES = torch.arange(30)
INSIDE = torch.zeros(30)  # every key site within the window
ALLELES = torch.from_numpy(PANEL.alleles(slice(None)))


def flattened(model: V18, tokens: torch.Tensor) -> torch.Tensor:
    """Float64 [n, l * dims]: flattened embeddings of rows."""
    with torch.no_grad():
        return model.embedding(tokens, FEATURES).double().flatten(1)


def squared_distances(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (queries[:, None] - rows[None]).square().sum(dim=-1)


def retrieved(model: V18, k: int) -> torch.Tensor:
    retriever = build_retriever(model, REFERENCE, FEATURES, device=CPU)
    return retriever.retrieve(SITES, INSIDE, ALLELES, k)


def test_collapsed_keys_give_distances_of_flattened_embeddings() -> None:
    for model in (create("v18", TINY_MODEL), perturbed("v18")):
        assert isinstance(model, V18)
        flat = flattened(model, ALLELES.long() + REF_TOKEN)
        brute = squared_distances(flat, flat)
        with torch.no_grad():
            weights = model.embedding.allele_weights(FEATURES)
        for backend in ("faiss", "torch"):
            index = build_index(REFERENCE, weights, backend=backend, device=CPU)
            distances, rows = index.search(SITES, ALLELES.float(), 30)
            torch.testing.assert_close(distances.double(), brute.gather(1, rows), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(distances.double(), brute.sort(dim=1).values, atol=1e-4, rtol=1e-4)


def test_masked_site_does_not_affect_ranking() -> None:
    """A MASK token is equally far from all rows in the flattened space; in the keys its site is excluded."""
    model = perturbed("v18")
    assert isinstance(model, V18)
    typed = torch.arange(30) % 3 == 0
    tokens = ALLELES.long() + REF_TOKEN
    masked = torch.where(typed, tokens, MASK_TOKEN)
    brute = squared_distances(flattened(model, masked), flattened(model, masked))
    with torch.no_grad():
        index = build_index(REFERENCE, model.embedding.allele_weights(FEATURES), backend="faiss", device=CPU)
    distances, rows = index.search(SITES[typed], ALLELES[:, typed].float(), 30)
    torch.testing.assert_close(distances.double(), brute.gather(1, rows), atol=1e-4, rtol=1e-4)


def test_coordinate_towards_midpoint_scales_site_weight() -> None:
    """The ranking is that of sum_l w_l g_l [q_l != r_l], although keys contain only w."""
    weights = torch.rand(30, generator=torch.Generator().manual_seed(1)) + 0.1
    factor = torch.rand(30, generator=torch.Generator().manual_seed(2))
    differ = (ALLELES[:, None] != ALLELES[None]).double()
    brute = (differ * weights * factor).sum(dim=-1)
    index = build_index(REFERENCE, weights, backend="torch", device=CPU)
    rows = nearest(index, SITES, ALLELES, factor, 30, None, None)
    torch.testing.assert_close(brute.gather(1, rows), brute.sort(dim=1).values, atol=1e-5, rtol=1e-5)


def test_untrained_metric_ranks_as_hamming_and_trained_does_not() -> None:
    hamming = (ALLELES[:, None] != ALLELES[None]).sum(dim=-1)
    model = create("v18", TINY_MODEL)
    assert isinstance(model, V18)
    in_order = hamming.gather(1, retrieved(model, 30))
    assert (in_order.diff(dim=1) >= 0).all()
    before = retrieved(model, 5)
    last = model.embedding.scale[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.normal_(last.weight, std=0.5, generator=torch.Generator().manual_seed(4))
    trained = hamming.gather(1, retrieved(model, 30))
    assert (trained.diff(dim=1) < 0).any(dim=1).float().mean() > 0.9
    assert not torch.equal(before, retrieved(model, 5))


def test_training_steps_move_ranking_from_hamming() -> None:
    """One site decides the answer, and the loss on copying weights raises its weight."""
    model = create("v18", TINY_MODEL)
    assert isinstance(model, V18)
    optimiser = torch.optim.Adam(model.embedding.scale.parameters(), lr=0.01)
    sign = 1 - 2 * ALLELES[:10].to(torch.int8)
    rows = torch.arange(len(ALLELES)).expand(1, 10, -1)
    agree = (ALLELES[:10, None, 7] == ALLELES[None, :, 7]).float()
    for _ in range(20):
        weights = model.retrieval(
            sign[None],
            ALLELES,
            rows,
            model.retrieval.site_weights(model.embedding.allele_weights(FEATURES), INSIDE),
        )[0]
        loss = -(weights * agree[:, None]).sum(dim=-1).log().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        learned = model.embedding.allele_weights(FEATURES)
    assert learned[7] > learned.mean()
    hamming = (ALLELES[:, None] != ALLELES[None]).sum(dim=-1)
    assert (hamming.gather(1, retrieved(model, 30)).diff(dim=1) < 0).any()


def test_ranking_changes_at_update_only() -> None:
    model = create("v18", TINY_MODEL)
    assert isinstance(model, V18)
    retriever = build_retriever(model, REFERENCE, FEATURES, device=CPU)
    assert isinstance(retriever, EmbeddingRetriever)
    before = retriever.retrieve(SITES, INSIDE, ALLELES, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(6)) * 0.5)
    assert torch.equal(retriever.retrieve(SITES, INSIDE, ALLELES, 10), before)
    retriever.update(model.retrieval, site_weights(model, FEATURES))
    assert not torch.equal(retriever.retrieve(SITES, INSIDE, ALLELES, 10), before)


def test_retrieval_ranks_by_mean_cost_of_heads() -> None:
    """The search ranks by the sum over heads of the costs in each head's softmax."""
    model = perturbed("v18")
    assert isinstance(model, V18)
    distance = torch.linspace(0, 0.5, 30)
    with torch.no_grad():
        costs = model.retrieval.site_weights(model.embedding.allele_weights(FEATURES), distance).sum(dim=0)
    brute = ((ALLELES[:, None] != ALLELES[None]) * costs).sum(dim=-1)
    rows = build_retriever(model, REFERENCE, FEATURES, device=CPU).retrieve(SITES, distance, ALLELES, 30)
    torch.testing.assert_close(brute.gather(1, rows), brute.sort(dim=1).values, atol=1e-4, rtol=1e-4)
