from __future__ import annotations

import numpy as np
import pytest

from vcfbert.genotypes.windows import MIN_KEY_SITES, Window, blend_weights, distance_from, key_sites, tile

CM = np.arange(100) * 0.1
WINDOW = Window(3, (42, 48), 40, 50, (30, 60))


def test_tile_into_three_windows_equals_values_by_hand() -> None:
    windows = tile(np.arange(20) * 1.0, length=10, flank=1, span_cm=1.5)
    assert windows == [
        Window(0, (0, 7), 0, 10, (0, 11)),
        Window(1, (7, 13), 5, 15, (4, 16)),
        Window(2, (13, 20), 10, 20, (9, 20)),
    ]
    assert (windows[1].sites, windows[1].retrieval_sites) == (slice(5, 15), slice(4, 16))


def test_tile_of_fewer_sites_than_a_window_is_one_window() -> None:
    assert tile(np.arange(5) * 1.0, length=10, flank=2, span_cm=9.0) == [Window(0, (0, 5), 0, 5, (0, 5))]
    assert tile(np.array([3.0]), length=10, flank=2, span_cm=0.0) == [Window(0, (0, 1), 0, 1, (0, 1))]


def test_retrieval_window_includes_all_sites_at_its_end_positions() -> None:
    cm = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3], dtype=float)
    for window in tile(cm, length=8, flank=2, span_cm=0.0):
        low, high = window.retrieval
        assert cm[low] == cm[window.start]
        assert low == 0 or cm[low - 1] < cm[low]
        assert high == len(cm) or cm[high] > cm[high - 1]


def test_blend_weights_of_two_windows_equal_values_by_hand() -> None:
    """Cores [0, 6) and [6, 12), windows of 8: sites 4..7 are shared, and 1 cM apart but for a jump of 3 cM."""
    cm = np.array([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13], dtype=float)
    windows = tile(cm, length=8, flank=1, span_cm=0.0)
    assert [(w.start, w.stop) for w in windows] == [(0, 8), (4, 12)]
    first, second = (blend_weights(w, windows, cm) for w in windows)
    assert first.tolist() == pytest.approx([1, 1, 1, 1, 1, 0.8, 0.2, 0], abs=1e-6)
    assert second.tolist() == pytest.approx([0, 0.2, 0.8, 1, 1, 1, 1, 1], abs=1e-6)


def test_blend_weights_of_one_window_are_one() -> None:
    cm = np.arange(6) * 0.1
    windows = tile(cm, length=10, flank=2, span_cm=0.1)
    assert blend_weights(windows[0], windows, cm).tolist() == [1.0] * 6


def test_distances_from_the_window_by_hand() -> None:
    distance = distance_from(WINDOW, np.array([35, 40, 45, 49, 52]), CM)
    assert distance.tolist() == pytest.approx([0.5, 0, 0, 0, 0.3])


def test_key_sites_are_typed_sites_of_retrieval_window() -> None:
    typed = np.arange(0, 100)
    assert key_sites(WINDOW, typed, CM).tolist() == list(range(30, 60))


def test_few_key_sites_are_filled_with_nearest() -> None:
    typed = np.array([2, 5, *range(36, 44), *range(70, 100)])
    found = key_sites(WINDOW, typed, CM)
    assert len(found) == MIN_KEY_SITES
    assert found.tolist() == [*range(36, 44), *range(70, 78)]
    assert key_sites(WINDOW, np.array([3, 99]), CM).tolist() == [3, 99]
    assert key_sites(WINDOW, np.array([45]), CM).tolist() == [45]
