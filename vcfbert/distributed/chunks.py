"""How a job is cut: the panel's sites into chunks by genetic length, the target's samples into groups."""

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
    """The interval ``sites`` of the panel as chunks of at least ``length_cm`` each, the last one half of it.

    They are cut where a window begins, because windows that a cut goes through are predicted for both sides of it:
    wherever two windows overlap the chunks do, and each chunk's typed sites reach further still, by the
    retrieval window. Where some windows do not overlap, as some of V19's, a cut between others must be worth twice the
    length. A record that is written as one (``joined`` [n_sites]: with the site before) stays whole.
    """
    first, last = sites
    cuts = [first]
    apart = [before.stop <= window.start for before, window in pairwise(windows)]
    for window, is_apart in zip(windows[1:], apart, strict=True):
        start = window.start
        while start > 0 and joined[start]:
            start -= 1
        least = length_cm if is_apart or not any(apart) else 2 * length_cm
        if cuts[-1] < start < last and cm[start] - cm[cuts[-1]] >= least:
            cuts.append(start)
    if len(cuts) > 1 and cm[last - 1] - cm[cuts[-1]] < length_cm / 2:
        cuts.pop()
    return list(pairwise([*cuts, last]))


def cut_samples(n_samples: int, most: int) -> list[Interval]:
    """Groups of nearly equal size, none larger than ``most``."""
    bounds = np.linspace(0, n_samples, math.ceil(n_samples / most) + 1).round().astype(int).tolist()
    return list(pairwise(bounds))
