from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from vcfbert.config import MaskConfig
from vcfbert.genotypes.masks import array_mask, curriculum_rate, fixed_rate_mask, window_mask

CURRICULUM = MaskConfig(array_share=0.0)
ARRAY = MaskConfig(array_share=1.0)
MAF = np.concatenate([np.full(4000, 0.01), np.full(6000, 0.3)])


def mask(
    maf: npt.NDArray[np.float64] = MAF,
    *,
    seed: int = 1,
    epoch: int = 0,
    window: int = 0,
    config: MaskConfig = CURRICULUM,
) -> npt.NDArray[np.bool_]:
    return window_mask(maf, seed=seed, epoch=epoch, epochs=20, window=window, config=config)


def test_curriculum_rate_rises_every_two_epochs_to_its_end() -> None:
    rates = [curriculum_rate(epoch, 20, CURRICULUM) for epoch in range(20)]
    assert rates[0] == 0.30
    assert rates[-1] == pytest.approx(0.80)
    assert rates[0::2] == rates[1::2]
    assert np.diff(rates[0::2]) == pytest.approx([0.5 / 9] * 9)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [0.3]), (2, [0.3] * 2), (4, [0.3, 0.3, 0.8, 0.8]), (3, [0.3, 0.3, 0.8])]
)
def test_curriculum_rate_of_few_epochs_reaches_its_end(epochs: int, expected: list[float]) -> None:
    assert [curriculum_rate(e, epochs, CURRICULUM) for e in range(epochs)] == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "common", "rare"), [(0, 0.30, 0.70), (19, 0.80, 0.80)])
def test_window_mask_hides_the_configured_fractions(epoch: int, common: float, rare: float) -> None:
    typed = mask(epoch=epoch)
    assert 1 - typed[4000:].mean() == pytest.approx(common, abs=0.03)
    assert 1 - typed[:4000].mean() == pytest.approx(rare, abs=0.03)


def test_array_masks_show_few_common_sites_of_log_uniform_density() -> None:
    densities = []
    for window in range(300):
        typed = mask(window=window, config=ARRAY)
        assert not typed[:4000].any()
        densities.append(typed.mean())
    assert min(densities) >= 0.0099
    assert max(densities) <= 0.2001
    # Log-uniform: as many below the geometric middle of 1% and 20% as above it.
    assert np.mean(np.array(densities) < np.sqrt(0.01 * 0.20)) == pytest.approx(0.5, abs=0.1)


def test_window_masks_mix_both_kinds() -> None:
    config = MaskConfig(array_share=0.5)
    array_like = [not mask(window=window, config=config)[:4000].any() for window in range(200)]
    assert np.mean(array_like) == pytest.approx(0.5, abs=0.12)


def test_array_mask_of_a_small_window_shows_common_sites_alone() -> None:
    rng = np.random.default_rng(0)
    few = array_mask(np.array([0.01, 0.3, 0.02]), rng, 0.9)
    assert few.tolist() == [False, True, False]  # no more than there are
    one = array_mask(np.full(10, 0.3), rng, 0.01)
    assert one.sum() == 1  # and one at least
    assert not array_mask(np.full(10, 0.01), rng, 0.5).any()


def test_window_mask_depends_on_seed_epoch_and_window_alone() -> None:
    for config in (CURRICULUM, ARRAY):
        first = mask(seed=3, epoch=2, window=5, config=config)
        np.random.default_rng().random(10)
        assert np.array_equal(first, mask(seed=3, epoch=2, window=5, config=config))
        for other in ({"seed": 4}, {"epoch": 3}, {"window": 6}):
            assert not np.array_equal(first, mask(config=config, **{"seed": 3, "epoch": 2, "window": 5, **other}))


def test_window_masks_of_another_process_are_the_same() -> None:
    code = (
        "import json, numpy as np\n"
        "from vcfbert.config import MaskConfig\n"
        "from vcfbert.genotypes.masks import window_mask\n"
        "maf = np.linspace(0, 0.5, 50)\n"
        "masks = [window_mask(maf, seed=9, epoch=e, epochs=20, window=w, config=MaskConfig()) for e, w in "
        "[(0, 0), (3, 7), (11, 2)]]\n"
        "print(json.dumps([np.flatnonzero(m).tolist() for m in masks]))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    maf = np.linspace(0, 0.5, 50)
    here = [
        window_mask(maf, seed=9, epoch=e, epochs=20, window=w, config=MaskConfig())
        for e, w in [(0, 0), (3, 7), (11, 2)]
    ]
    assert json.loads(elsewhere.stdout) == [np.flatnonzero(m).tolist() for m in here]


def test_fixed_rate_mask_hides_rare_sites_at_their_own_rate() -> None:
    maf = np.concatenate([np.full(1000, 0.001), MAF])
    typed = fixed_rate_mask(maf, seed=1, window=0, rate=0.5, rare_rate=0.7, min_maf=0.005)
    assert not typed[:1000].any()
    assert 1 - typed[1000:5000].mean() == pytest.approx(0.7, abs=0.03)
    assert 1 - typed[5000:].mean() == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(typed, fixed_rate_mask(maf, seed=1, window=0, rate=0.5, rare_rate=0.7, min_maf=0.005))


def test_window_mask_hides_rare_sites_at_least_at_the_rare_rate() -> None:
    config = dataclasses.replace(CURRICULUM, rare=0.1)
    typed = mask(config=config)
    assert 1 - typed[:4000].mean() == pytest.approx(0.30, abs=0.03)
