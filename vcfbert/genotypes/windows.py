"""Windows: cores that tile the panel, flanks that overlap, and a retrieval window whose typed sites serve as keys.

All windows of a panel have the same number of sites, or all sites of a smaller panel. Batches therefore need no
padding. Near the ends of the panel a window is shifted inwards and not shortened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

MIN_KEY_SITES = 16  # where the retrieval window has fewer typed sites, the nearest ones outside it are used as well


@dataclass(frozen=True)
class Window:
    """Half-open intervals of site indices.

    ``core`` lies within [``start``, ``stop``), and that within ``retrieval``, the retrieval window.
    """

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

    A window has ``length`` sites, at least ``flank`` of them beyond each inner border of its core. ``flank`` is at most
    a quarter of ``length``. The retrieval window extends the window by ``span_cm`` on each side.
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
    """Weights [stop - start] of this window's predictions. At each site the weights of all windows sum to 1.

    Where two neighbours overlap, the weight falls linearly from 1 to 0 around their border: in genetic distance, and
    in site index where the map is flat.
    """
    weight = np.ones(window.stop - window.start, dtype=np.float64)
    # At most half a core on each side, so that the ramps at a window's two borders never meet.
    reach = min(w.core[1] - w.core[0] for w in windows) // 2
    if window.index > 0:
        before = windows[window.index - 1]
        weight *= _ramp(window, window.core[0], _half_width(before, window, reach), cm)
    if window.index + 1 < len(windows):
        after = windows[window.index + 1]
        weight *= 1.0 - _ramp(window, window.core[1], _half_width(window, after, reach), cm)
    return weight.astype(np.float32)


def _half_width(left: Window, right: Window, reach: int) -> int:
    """Sites on each side of two neighbours' border that both windows cover, at most ``reach``.

    Near the ends of the panel windows are shifted inwards, and the border is not in the middle of the overlap.
    """
    boundary = right.core[0]
    return min(reach, boundary - right.start, left.stop - boundary)


def _ramp(window: Window, boundary: int, half: int, cm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 before ``boundary - half``, 1 from ``boundary + half`` on; rises with genetic position between them."""
    low, high = boundary - half, boundary + half
    sites = np.arange(window.start, window.stop)
    ramp = (sites >= high).astype(np.float64)
    if high > low:
        inside = (sites >= low) & (sites < high)
        # A small slope in site index keeps the ramp rising where the map is flat.
        position = (cm[low:high] - cm[low]) + 1e-9 * np.arange(1, high - low + 1)
        ramp[inside] = (position / (position[-1] + 1e-9))[sites[inside] - low]
    return ramp


def key_sites(window: Window, typed: npt.NDArray[np.int64], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The key sites int64 [t] of a window: the typed sites of its retrieval window.

    If these are fewer than ``MIN_KEY_SITES``, the typed sites nearest to the window take their place. ``typed``: the
    target's typed sites, ascending panel site indices. ``cm`` [n_sites]: genetic positions.
    """
    low, high = np.searchsorted(typed, window.retrieval)
    if high - low >= MIN_KEY_SITES or high - low == len(typed):
        return typed[low:high]
    distance = distance_from(window, typed, cm)
    nearest = np.argsort(distance, kind="stable")[:MIN_KEY_SITES]
    return typed[np.sort(nearest)]


def distance_from(window: Window, sites: npt.NDArray[np.int64], cm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance in cM from each of ``sites`` to the nearer edge of the window, 0 inside it."""
    position = cm[sites]
    return np.asarray(np.maximum(np.maximum(cm[window.start] - position, position - cm[window.stop - 1]), 0.0))
