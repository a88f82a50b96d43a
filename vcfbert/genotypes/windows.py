"""Windows: core sites that tile the panel, flanks that overlap, and the retrieval window whose typed sites retrieve.

All windows of a panel hold the same number of sites (the panel's own number if that is smaller), so batches
need no padding: near the ends a window is shifted inwards rather than shortened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Window:
    """Half-open intervals of site indices: core within window within retrieval window."""

    index: int
    core: tuple[int, int]
    start: int
    stop: int
    retrieval: tuple[int, int]

    @property
    def sites(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def retrieval_sites(self) -> slice:
        return slice(*self.retrieval)


def tile(cm: npt.NDArray[np.float64], *, length: int, flank: int, span_cm: float) -> list[Window]:
    """Windows over sites at genetic positions ``cm`` [n_sites] (centimorgans, ascending).

    ``length`` sites a window, at least ``flank`` of them on each inner side beyond the core (``flank`` is at most
    a quarter of ``length``); the retrieval window reaches ``span_cm`` beyond the window on each side.
    """
    n_sites = len(cm)
    size = min(length, n_sites)
    count = 1 if size == n_sites else math.ceil(n_sites / (size - 2 * flank))
    bounds = np.linspace(0, n_sites, count + 1).round().astype(int)
    windows = []
    for index, (core_start, core_stop) in enumerate(pairwise(bounds.tolist())):
        start = int(np.clip((core_start + core_stop - size) // 2, 0, n_sites - size))
        stop = start + size
        retrieval_start = int(np.searchsorted(cm, cm[start] - span_cm, side="left"))
        retrieval_stop = int(np.searchsorted(cm, cm[stop - 1] + span_cm, side="right"))
        windows.append(Window(index, (core_start, core_stop), start, stop, (retrieval_start, retrieval_stop)))
    return windows


def blend_weights(window: Window, windows: list[Window], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Weight [stop - start] of this window's predictions at its sites; over all windows they sum to 1 a site.

    Around the boundary of two neighbours, as far as both reach, the weight falls linearly in genetic distance from
    1 to 0; where the map is flat, in site index.
    """
    weight = np.ones(window.stop - window.start, dtype=np.float64)
    # At most half a core each side, so that the ramps at a window's two boundaries never meet.
    reach = min(w.core[1] - w.core[0] for w in windows) // 2
    if window.index > 0:
        before = windows[window.index - 1]
        weight *= _ramp(window, window.core[0], _half_width(before, window, reach), cm)
    if window.index + 1 < len(windows):
        after = windows[window.index + 1]
        weight *= 1.0 - _ramp(window, window.core[1], _half_width(window, after, reach), cm)
    return weight.astype(np.float32)


def _half_width(left: Window, right: Window, reach: int) -> int:
    """Sites a side of two neighbours' boundary that both cover: near the ends, where windows are shifted inwards, the
    boundary is not in the middle of what they share."""
    boundary = right.core[0]
    return min(reach, boundary - right.start, left.stop - boundary)


def _ramp(window: Window, boundary: int, half: int, cm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 before ``boundary - half``, 1 from ``boundary + half`` on, rising with genetic position between."""
    low, high = boundary - half, boundary + half
    sites = np.arange(window.start, window.stop)
    ramp = (sites >= high).astype(np.float64)
    if high > low:
        inside = (sites >= low) & (sites < high)
        # A small slope in site index keeps the ramp rising where the map is flat.
        position = (cm[low:high] - cm[low]) + 1e-9 * np.arange(1, high - low + 1)
        ramp[inside] = (position / (position[-1] + 1e-9))[sites[inside] - low]
    return ramp
