"""Windows and their blending on random genetic maps, tiny and flat ones included."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vcfbert.genotypes.windows import blend_weights, tile

Cut = tuple[npt.NDArray[np.float64], int, int, float]


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """Positions, window length, flank and retrieval window."""
    n_sites = draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["even", "flat", "random", "steps"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    gaps = {
        "even": np.full(n_sites, 0.01),
        "flat": np.zeros(n_sites),
        "random": rng.exponential(0.01, n_sites),
        "steps": np.where(rng.random(n_sites) < 0.1, rng.exponential(1.0, n_sites), 0.0),
    }[kind]
    length = draw(st.integers(8, 120))
    flank = draw(st.integers(0, length // 4))
    return draw(st.floats(0, 100)) + np.cumsum(gaps), length, flank, draw(st.floats(0, 2))


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_windows_tile_the_sites(cut: Cut) -> None:
    cm, length, flank, span_cm = cut
    windows = tile(cm, length=length, flank=flank, span_cm=span_cm)
    assert [w.index for w in windows] == list(range(len(windows)))
    bounds = [0, *(w.core[1] for w in windows)]
    assert [w.core for w in windows] == list(pairwise(bounds))
    assert bounds[-1] == len(cm)
    for window in windows:
        assert window.core[0] < window.core[1]
        assert window.retrieval[0] <= window.start <= window.core[0]
        assert window.core[1] <= window.stop <= window.retrieval[1] <= len(cm)
        assert window.stop - window.start == min(length, len(cm))
        assert window.retrieval[0] >= 0
        before, after = window.core[0] - window.start, window.stop - window.core[1]
        assert window.start == 0 or before >= flank
        assert window.stop == len(cm) or after >= flank
        inside = (cm >= cm[window.start] - span_cm) & (cm <= cm[window.stop - 1] + span_cm)
        assert np.array_equal(np.flatnonzero(inside), np.arange(*window.retrieval))


@settings(max_examples=200, deadline=None)
@given(cuts())
@example((np.arange(20) * 0.01, 8, 2, 0.1))
@example((np.arange(130) * 0.01, 64, 8, 0.05))
@example((np.zeros(33), 8, 2, 0.0))
def test_blending_weights_sum_to_one_everywhere(cut: Cut) -> None:
    cm, length, flank, span_cm = cut
    windows = tile(cm, length=length, flank=flank, span_cm=span_cm)
    total = np.zeros(len(cm))
    for window in windows:
        weight = blend_weights(window, windows, cm)
        assert weight.dtype == np.float32
        assert (weight >= 0).all()
        assert (weight <= 1).all()
        total[window.sites] += weight
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(cuts())
def test_blend_weights_rise_to_the_core_middle_and_fall_after_it(cut: Cut) -> None:
    """Weights rise to the core's middle and fall after it."""
    cm, length, flank, span_cm = cut
    windows = tile(cm, length=length, flank=flank, span_cm=span_cm)
    for window in windows:
        weight = blend_weights(window, windows, cm)
        middle = (window.core[0] + window.core[1]) // 2 - window.start
        assert weight[middle] > 0
        assert (np.diff(weight[:middle]) >= -1e-6).all()
        assert (np.diff(weight[middle:]) <= 1e-6).all()
