from __future__ import annotations

import math

import pytest

from vcfbert.training.optimizer import learning_rate


def test_learning_rate_by_hand() -> None:
    rates = [learning_rate(step, 12, peak=1.0, warmup_steps=4) for step in range(12)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[8] == pytest.approx(0.55)  # half way down
    assert rates[6] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(12, 12, peak=1.0, warmup_steps=4) == pytest.approx(0.1)
    assert learning_rate(99, 12, peak=1.0, warmup_steps=4) == pytest.approx(0.1)
    assert learning_rate(0, 5, peak=1.0, warmup_steps=0) == 1.0
    assert learning_rate(2, 3, peak=1.0, warmup_steps=10) == pytest.approx(0.3)
