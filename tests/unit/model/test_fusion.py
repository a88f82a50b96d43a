from __future__ import annotations

import math

import pytest
import torch

from vcfbert.model.fusion import INITIAL_DECAY, RetrievalHeads, search_profile, smoothed_logit


def test_copying_weights_by_hand() -> None:
    """In head r, a mismatch at a site of weight w, d cM outside the window, costs w exp(-decay_r d) / tau_r."""
    heads = RetrievalHeads()
    heads.init_weights()
    with torch.no_grad():
        heads.log_decay[1] = math.log(10.0)
        heads.log_temperature[1] = math.log(0.5)
    site_weights = heads.site_weights(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 0.1]))
    assert site_weights.shape == (len(INITIAL_DECAY), 2)
    assert site_weights[1].tolist() == pytest.approx([2.0, 8.0 / math.e])
    query = torch.tensor([[[1, -1]]], dtype=torch.int8)  # REF, ALT: [b = 1, 1, t = 2]
    rows = torch.tensor([[0, 1], [1, 1], [1, 0]], dtype=torch.uint8)  # mismatches none, the first, both
    weights = heads(query, rows, torch.tensor([[[0, 1, 2]]]), site_weights)
    scores = [1.0, math.exp(-2.0), math.exp(-2.0 - 8.0 / math.e)]
    assert weights.shape == (1, 1, len(INITIAL_DECAY), 3)
    assert weights[0, 0, 1].tolist() == pytest.approx([s / sum(scores) for s in scores])


def test_search_profile_is_mean_of_heads_and_one_inside_window() -> None:
    decay, temperature = torch.tensor([1.0, 5.0]), torch.tensor([1.0, 0.5])
    profile = search_profile(decay, temperature, torch.tensor([0.0, 0.2]))
    assert profile.tolist() == pytest.approx([1.0, (math.exp(-0.2) + 2 * math.exp(-1.0)) / 3])


def test_smoothed_logit_by_hand() -> None:
    logit = smoothed_logit(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.1, 0.5, 0.0]), torch.tensor(0.02))
    expected = [0.002, 0.5, 0.98 + 0.02 * 1e-4]
    assert logit.sigmoid().tolist() == pytest.approx(expected, rel=1e-4)
    assert smoothed_logit(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.tensor(0.0)).isfinite().all()
