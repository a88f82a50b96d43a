"""Which sites a training query shows: a pure function of (seed, epoch, window), the same in every worker.

Two kinds are mixed. The *curriculum* masks a share of all sites that rises with the epochs, rare sites at a share
of their own. The *array-like* mask shows few sites, chosen among common ones, because arrays are what users have.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vcfbert.config import MaskConfig
from vcfbert.constants import RARE_MAF

# Streams of the seed sequence, so that masks, batches and weights never share random numbers.
MASK_STREAM = 1


def curriculum_rate(epoch: int, epochs: int, config: MaskConfig) -> float:
    """Share of common sites masked in ``epoch`` (from 0): ``start`` -> ``end``, one step every ``step_epochs``."""
    steps = max((epochs - 1) // config.step_epochs, 1)
    return config.start + (config.end - config.start) * min(epoch // config.step_epochs / steps, 1.0)


def window_mask(
    maf: npt.NDArray[np.float64], *, seed: int, epoch: int, epochs: int, window: int, config: MaskConfig
) -> npt.NDArray[np.bool_]:
    """Typed sites [n_sites of the retrieval window]: True where the query shows its allele."""
    rng = np.random.default_rng([seed, MASK_STREAM, epoch, window])
    if rng.random() < config.array_share:
        return array_mask(maf, rng, np.exp(rng.uniform(*np.log(config.array_density))))
    rate = curriculum_rate(epoch, epochs, config)
    return rng.random(len(maf)) >= np.where(maf < RARE_MAF, max(rate, config.rare), rate)


def fixed_rate_mask(
    maf: npt.NDArray[np.float64], *, seed: int, window: int, rate: float, rare_rate: float, min_maf: float
) -> npt.NDArray[np.bool_]:
    """The masked evaluation protocol: sites below ``min_maf`` are all hidden, rare ones at ``rare_rate``."""
    rng = np.random.default_rng([seed, MASK_STREAM, window])
    typed = rng.random(len(maf)) >= np.where(maf < RARE_MAF, rare_rate, rate)
    return typed & (maf >= min_maf)


def array_mask(maf: npt.NDArray[np.float64], rng: np.random.Generator, density: float) -> npt.NDArray[np.bool_]:
    """Typed sites as an array has them: a share ``density`` of all sites, chosen among common ones."""
    common = np.flatnonzero(maf >= RARE_MAF)
    count = min(len(common), max(round(density * len(maf)), 1))
    typed = np.zeros(len(maf), dtype=bool)
    typed[rng.choice(common, size=count, replace=False)] = True
    return typed
