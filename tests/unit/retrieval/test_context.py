from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.batches import context_of, mismatches, window_over
from tests.helpers.tiny import random_panel
from vcfbert.constants import MASK_TOKEN, REF_TOKEN

PANEL = random_panel(6, 30, seed=1)


def test_context_by_hand() -> None:
    context = context_of(PANEL, margin=4, every=3)
    window = window_over(PANEL, margin=4)
    key = np.arange(0, 30, 3)
    assert context.key.tolist() == key.tolist()
    assert torch.equal(context.key_alleles, torch.from_numpy(PANEL.alleles(key)))
    assert torch.equal(context.patterns[context.pattern_of], torch.from_numpy(PANEL.alleles(window.sites)))
    assert context.typed.nonzero()[:, 0].tolist() == [2, 5, 8, 11, 14, 17, 20]
    assert context.key[context.typed_in_key].tolist() == [6, 9, 12, 15, 18, 21, 24]
    middle = (PANEL.cm[4] + PANEL.cm[25]) / 2
    torch.testing.assert_close(context.sites.offset_cm, torch.from_numpy(PANEL.cm[4:26] - middle).float())
    assert context.sites.key_distance_cm.tolist() == pytest.approx([0.04, 0.01, *[0] * 7, 0.02], abs=1e-6)
    torch.testing.assert_close(context.sites.af, torch.from_numpy(PANEL.af[4:26]).float())


def test_batch_with_missing_calls_by_hand() -> None:
    context = context_of(PANEL, margin=4, every=3)
    queries = context.key_alleles[:2]
    known = torch.ones(2, 10, dtype=torch.bool)
    known[0, 2] = False  # site 6, the window's third
    batch = context.batch(queries, torch.tensor([[5], [7]]), known)
    assert batch.tokens[0, 0, 2] == MASK_TOKEN
    assert batch.tokens[0, 1, 2] == queries[1, 2] + REF_TOKEN
    expected = (queries != context.key_alleles[[5, 7]]) & known
    assert torch.equal(mismatches(batch)[0, :, 0], expected)


def test_keeping_rows_gives_same_batch() -> None:
    context = context_of(PANEL)
    rows = torch.tensor([[7, 3], [3, 3]])
    kept, renumbered = context.keeping(rows)
    assert len(kept.patterns) <= 2
    one, other = context.batch(context.key_alleles[:2], rows), kept.batch(context.key_alleles[:2], renumbered)
    assert torch.equal(one.patterns[one.retrieved], other.patterns[other.retrieved])
    assert torch.equal(mismatches(one), mismatches(other))
