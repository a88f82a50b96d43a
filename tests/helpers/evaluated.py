"""Moments of evaluations made by hand: dosages that are the truth plus noise."""

from __future__ import annotations

import numpy as np

from vcfbert.metrics.r2_sums import R2Sums, R2SumsBuilder

SAMPLES = tuple(f"s{i}" for i in range(40))
SITES = 200


def r2_sums_of(noise: float, *, rare_noise: float | None = None, noise_seed: int = 2, truth_seed: int = 1) -> R2Sums:
    """Half of the sites are of MAF 0.2%, half of 30%; ``noise``: standard deviation of the dosages' errors, at rare
    sites ``rare_noise``. Of the same ``truth_seed`` they pair."""
    generator = np.random.default_rng(truth_seed)
    af = np.where(np.arange(SITES) % 2 == 0, 0.002, 0.3)
    truth = generator.integers(0, 3, (SITES, len(SAMPLES)))
    sd = np.where(af < 0.01, noise if rare_noise is None else rare_noise, noise)[:, None]
    dosage = truth + sd * np.random.default_rng(noise_seed).normal(size=truth.shape)
    sums = R2SumsBuilder(SAMPLES, SITES)
    sums.update(np.arange(SITES), truth, dosage, af)
    return sums.result()
