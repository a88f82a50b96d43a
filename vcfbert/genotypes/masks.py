"""Masks: which sites of a query are typed. A pure function of (seed, epoch, window), equal in every worker.

Training mixes two kinds. The *curriculum* mask leaves a fraction of sites untyped that rises with the epochs; rare
sites have their own fraction. The *array-like* mask has few typed sites, all common, as genotyping arrays do.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vcfbert.config import MaskConfig
from vcfbert.constants import RARE_MAF

# Follows the seed in every seed sequence, so that masks share no random numbers with batches and weights.
MASK_STREAM = 1


def curriculum_rate(epoch: int, epochs: int, config: MaskConfig) -> float:
    """Fraction of common sites that are masked in ``epoch`` (from 0).

    It rises from ``start`` to ``end`` in equal steps, one every ``step_epochs`` epochs.
    """
    steps = max((epochs - 1) // config.step_epochs, 1)
    return config.start + (config.end - config.start) * min(epoch // config.step_epochs / steps, 1.0)


def window_mask(
    maf: npt.NDArray[np.float64], *, seed: int, epoch: int, epochs: int, window: int, config: MaskConfig
) -> npt.NDArray[np.bool_]:
    """Flags [n_sites of the retrieval window]: True at typed sites. ``maf`` [n_sites]; ``window``: its number."""
    rng = np.random.default_rng([seed, MASK_STREAM, epoch, window])
    if rng.random() < config.array_share:
        return array_mask(maf, rng, np.exp(rng.uniform(*np.log(config.array_density))))
    rate = curriculum_rate(epoch, epochs, config)
    return rng.random(len(maf)) >= np.where(maf < RARE_MAF, max(rate, config.rare), rate)


def fixed_rate_mask(
    maf: npt.NDArray[np.float64], *, seed: int, window: int, rate: float, rare_rate: float, min_maf: float
) -> npt.NDArray[np.bool_]:
    """The mask [n_sites] of the masked evaluation protocol: True at typed sites.

    All sites whose ``maf`` [n_sites] is below ``min_maf`` are masked, rare sites at ``rare_rate`` and others at
    ``rate``.
    """
    rng = np.random.default_rng([seed, MASK_STREAM, window])
    typed = rng.random(len(maf)) >= np.where(maf < RARE_MAF, rare_rate, rate)
    return typed & (maf >= min_maf)


def array_mask(maf: npt.NDArray[np.float64], rng: np.random.Generator, density: float) -> npt.NDArray[np.bool_]:
    """Flags [n_sites] of the typed sites of an array: ``density`` of all sites, sampled from the common ones."""
    common = np.flatnonzero(maf >= RARE_MAF)
    count = min(len(common), max(round(density * len(maf)), 1))
    typed = np.zeros(len(maf), dtype=bool)
    typed[rng.choice(common, size=count, replace=False)] = True
    return typed
