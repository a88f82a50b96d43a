"""Prepares windows for a target's typed sites, and caches them for later targets typed at the same sites.

Cutting the window's haplotypes at the typed sites takes most of the time of imputing a single sample, and does not
depend on the sample. A service receives many files typed by the same array.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.genotypes.windows import Window
from vcfbert.model.base import Variant
from vcfbert.model.v19 import CompiledWindow
from vcfbert.retrieval.context import WindowContext

# The whole reference subset is encoded and cached if it has at most this many times k haplotypes. Otherwise the
# rows that a set of queries retrieves are encoded for these queries alone.
_MAX_TIMES_RETRIEVED: Final = 4


@dataclass(frozen=True)
class WholeWindow:
    """A window compiled by V19 for all of its patterns.

    ``interval`` int64 [entries of ``Intervals.carriers``]: the interval that each entry belongs to.
    """

    compiled: CompiledWindow
    interval: npt.NDArray[np.int64]

    @classmethod
    def of(cls, compiled: CompiledWindow) -> WholeWindow:
        intervals = compiled.intervals
        site = np.repeat(np.arange(len(intervals.start) - 1), np.diff(intervals.start))
        return cls(compiled, np.searchsorted(intervals.bounds[1:], site, side="right"))

    def narrowed(self, patterns: npt.NDArray[np.int64]) -> CompiledWindow:
        """What V19 compiles for only ``patterns``, ascending pattern numbers."""
        whole = self.compiled.intervals
        number = whole.number[:, patterns]
        used = np.zeros((len(number), int(whole.counts.max())), dtype=bool)
        np.put_along_axis(used, number, True, axis=1)
        renumbered = np.cumsum(used, axis=1, dtype=np.int32) - 1
        kept = used[self.interval, whole.carriers]
        intervals = replace(
            whole,
            number=np.take_along_axis(renumbered, number, axis=1),
            counts=used.sum(axis=1),
            start=np.concatenate([[0], np.cumsum(kept)])[whole.start],
            carriers=renumbered[self.interval[kept], whole.carriers[kept]].astype(np.uint32),
        )
        return replace(self.compiled, intervals=intervals)


@dataclass(frozen=True)
class ReadyWindow:
    """A window for one set of typed sites. ``whole`` is None if each set of queries encodes what it retrieves."""

    context: WindowContext
    whole: WholeWindow | None = None

    def narrowed(self, model: Variant, rows: Tensor) -> tuple[WindowContext, Tensor, Any]:
        """The window with only the reference rows that occur in ``rows`` [n, k], ``rows`` renumbered, and the model's
        encoding of the remaining patterns."""
        context, renumbered = self.context.keeping(rows)
        if self.whole is None:
            return context, renumbered, model.encode_patterns(context.patterns, context.sites)
        patterns = torch.unique(self.context.pattern_of[torch.unique(rows)])  # numbered as in ``keeping``
        return context, renumbered, self.whole.narrowed(patterns.numpy())


class WindowCache:
    """The most recently used windows of a bundle's panels, up to ``max_bytes``; 0 caches none. Thread-safe."""

    def __init__(self, max_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._cached: OrderedDict[Hashable, tuple[ReadyWindow, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: Hashable) -> ReadyWindow | None:
        """The window cached under ``name``, None if there is none."""
        with self._lock:
            found = self._cached.get(name)
            if found is None:
                return None
            self._cached.move_to_end(name)
            return found[0]

    def add(self, name: Hashable, ready: ReadyWindow) -> None:
        """Caches a window, and drops those unused for longest to stay within the limit."""
        size = _n_bytes(ready)
        with self._lock:
            if name not in self._cached and size <= self.max_bytes:
                self._cached[name] = ready, size
                self.n_bytes += size
            while self.n_bytes > self.max_bytes:
                self.n_bytes -= self._cached.popitem(last=False)[1][1]


class ReadyWindows:
    """Prepares the windows of one model and reference subset, or takes them from a cache. Thread-safe.

    Predictions are the same, bit for bit, whether or not a window was cached.
    """

    def __init__(
        self, model: Variant, reference: ReferenceSubset, features: Tensor, k: int, cache: WindowCache
    ) -> None:
        """``features``: ``reference_features`` on the device of the windows. ``k``: haplotypes retrieved for each
        haplotype."""
        self._model = model
        self._reference = reference
        self._features = features
        self._encodes_whole = cache.max_bytes > 0 and len(reference) <= _MAX_TIMES_RETRIEVED * k
        self._cache = cache

    def get(self, window: Window, key: npt.NDArray[np.int64], *, sampled: bool = False) -> ReadyWindow:
        """The window for key sites int64 [t]. ``sampled``: queries are sampled phasings (``SiteContext``)."""
        name = (self._reference.panel.digest, window.start, window.stop, key.tobytes(), sampled)
        ready = self._cache.get(name)
        if ready is None:
            ready = self._make(window, key, sampled)
            self._cache.add(name, ready)
        return ready

    def _make(self, window: Window, key: npt.NDArray[np.int64], sampled: bool) -> ReadyWindow:
        context = WindowContext.build(self._reference, self._features, window, key, self._features.device)
        context = replace(context, sites=replace(context.sites, sampled=sampled))
        # Only the HMM's encoding can be narrowed to the rows that a batch retrieves.
        if not self._encodes_whole or not self._model.is_hmm:
            return ReadyWindow(context)
        compiled = self._model.encode_patterns(context.patterns, context.sites)
        return ReadyWindow(context, None if compiled is None else WholeWindow.of(compiled))


def _n_bytes(value: Any) -> int:
    """Size of the arrays and tensors in a dataclass and in the dataclasses that it holds."""
    if isinstance(value, np.ndarray | Tensor):
        return int(value.nbytes)
    return sum(_n_bytes(getattr(value, part.name)) for part in fields(value)) if is_dataclass(value) else 0
