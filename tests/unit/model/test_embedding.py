from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.helpers.tiny import TINY_MODEL, perturbed, random_panel
from vcfbert.constants import AF_FREQUENCIES, ALT_TOKEN, N_SITE_FEATURES, REF_TOKEN
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.embedding import AlleleEmbedding, PositionEmbedding, site_features
from vcfbert.model.v18 import V18
from vcfbert.model.variants import create
from vcfbert.retrieval.context import reference_features


def test_features_by_hand() -> None:
    features = site_features(torch.tensor([0.25, 0.0]), torch.tensor([1.0, 1.00099], dtype=torch.float64))
    assert features.shape == (2, N_SITE_FEATURES)
    angles = [math.pi * 0.5 * 2**i for i in range(AF_FREQUENCIES)]
    expected = [*map(math.sin, angles), *map(math.cos, angles), math.log10(0.2501) / 4 + 0.5, 0.0, 0.0]
    assert features[0].tolist() == pytest.approx(expected, abs=1e-5)  # 1e-3 cM on both sides
    assert features[1, 2 * AF_FREQUENCIES].item() == pytest.approx(-0.5)  # no minor allele


def test_features_of_one_site_or_equal_positions_are_finite() -> None:
    assert site_features(torch.tensor([0.1]), torch.tensor([3.0], dtype=torch.float64)).isfinite().all()
    assert site_features(torch.tensor([0.0, 1.0, 0.5]), torch.zeros(3, dtype=torch.float64)).isfinite().all()


def test_untrained_allele_weights_are_one() -> None:
    embedding = create("v18", TINY_MODEL).embedding
    torch.testing.assert_close(embedding.allele_weights(torch.randn(9, N_SITE_FEATURES)), torch.ones(9))


def test_weights_and_table_equal_embedding() -> None:
    embedding = perturbed("v18").embedding
    features = torch.randn(7, N_SITE_FEATURES, generator=torch.Generator().manual_seed(0))
    ref, alt = (embedding(torch.full((7,), token), features) for token in (REF_TOKEN, ALT_TOKEN))
    torch.testing.assert_close(embedding.allele_delta(features), alt - ref)
    torch.testing.assert_close(embedding.allele_weights(features), (alt - ref).square().sum(dim=-1))
    table = embedding.table(features)
    assert table.shape == (7, 4, TINY_MODEL.dims)
    torch.testing.assert_close(table[:, REF_TOKEN], ref)
    torch.testing.assert_close(table[:, ALT_TOKEN], alt)


def test_changed_scale_gives_sites_different_weights() -> None:
    """The product of token and site, unlike a sum, lets the metric learn."""
    weights = perturbed("v18").embedding.allele_weights(torch.randn(7, N_SITE_FEATURES))
    assert weights.std() > 0.01
    only_shift = create("v18", TINY_MODEL).embedding
    torch.nn.init.normal_(only_shift.shift.weight)
    assert only_shift.allele_weights(torch.randn(7, N_SITE_FEATURES)).std() < 1e-6


def test_allele_weights_pass_gradient_to_scale() -> None:
    embedding = create("v18", TINY_MODEL).embedding
    assert isinstance(embedding, AlleleEmbedding)
    embedding.allele_weights(torch.randn(5, N_SITE_FEATURES)).sum().backward()
    last = embedding.scale[-1]
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0


def test_positions_half_a_window_apart_differ() -> None:
    position = PositionEmbedding(8)
    embedded = position(torch.tensor([-0.05, 0.0, 0.05]))
    assert embedded.shape == (3, 8)
    assert (embedded[0] - embedded[2]).norm() > 1e-2


def test_reference_features_use_frequencies_of_the_subset() -> None:
    panel = random_panel(4, 12, validation=(1,))
    features = reference_features(ReferenceSubset(panel, panel.training_haplotypes), torch.device("cpu"))
    memory_af = np.delete(panel.alleles(slice(None)), [2, 3], axis=0).mean(axis=0)
    torch.testing.assert_close(features, site_features(torch.from_numpy(memory_af).float(), torch.from_numpy(panel.cm)))


def test_create_with_same_seed_gives_same_weights() -> None:
    first = create("v18", TINY_MODEL)
    torch.rand(100)
    state = torch.random.get_rng_state()
    second = create("v18", TINY_MODEL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(first, V18)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
