"""Division of a job: the panel's sites into chunks by genetic length, the target's samples into groups."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vcfbert.genotypes.windows import Window

Interval = tuple[int, int]  # half-open


def cut_sites(
    windows: list[Window],
    cm: npt.NDArray[np.float64],
    joined: npt.NDArray[np.bool_],
    sites: Interval,
    *,
    length_cm: float,
) -> list[Interval]:
    """Divides the interval ``sites`` of the panel into chunks of at least ``length_cm``; the last has at least half.

    ``cm`` float64 [n_sites]: genetic positions. ``joined`` bool [n_sites]: the site belongs to the record of the site
    before. A record is never divided.

    Chunks are cut where a window begins, because the windows across a cut are predicted for both chunks. If some
    neighbouring windows do not overlap, as in V19, cuts fall there first: a cut elsewhere needs twice the length.
    """
    first, last = sites
    cuts = [first]
    disjoint = [before.stop <= window.start for before, window in pairwise(windows)]
    for window, is_disjoint in zip(windows[1:], disjoint, strict=True):
        start = window.start
        while start > 0 and joined[start]:
            start -= 1
        min_cm = length_cm if is_disjoint or not any(disjoint) else 2 * length_cm
        if cuts[-1] < start < last and cm[start] - cm[cuts[-1]] >= min_cm:
            cuts.append(start)
    if len(cuts) > 1 and cm[last - 1] - cm[cuts[-1]] < length_cm / 2:
        cuts.pop()
    return list(pairwise([*cuts, last]))


def cut_samples(n_samples: int, max_samples: int) -> list[Interval]:
    """Divides samples into groups of nearly equal size, at most ``max_samples`` each."""
    bounds = np.linspace(0, n_samples, math.ceil(n_samples / max_samples) + 1).round().astype(int).tolist()
    return list(pairwise(bounds))
