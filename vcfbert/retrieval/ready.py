"""Windows made ready for the typed sites of an array, and kept for the next target that has the same ones.

Of a single sample's imputation most is work that says nothing of the sample: cutting the window's haplotypes at the
typed sites. A service is sent files of one array again and again.
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

# The whole memory is encoded, to be kept, where that is no more than this many times what one haplotype retrieves.
_MAX_TIMES_RETRIEVED: Final = 4


@dataclass(frozen=True)
class WholeWindow:
    """What V19 makes of all the window's patterns. ``segment`` int64, of each of its segments' carriers."""

    compiled: CompiledWindow
    segment: npt.NDArray[np.int64]

    @classmethod
    def of(cls, compiled: CompiledWindow) -> WholeWindow:
        segments = compiled.segments
        site = np.repeat(np.arange(len(segments.start) - 1), np.diff(segments.start))
        return cls(compiled, np.searchsorted(segments.bounds[1:], site, side="right"))

    def narrowed(self, patterns: npt.NDArray[np.int64]) -> CompiledWindow:
        """The same as V19 makes of those ``patterns`` alone, ascending numbers."""
        whole = self.compiled.segments
        number = whole.number[:, patterns]
        used = np.zeros((len(number), int(whole.counts.max())), dtype=bool)
        np.put_along_axis(used, number, True, axis=1)
        renumbered = np.cumsum(used, axis=1, dtype=np.int32) - 1
        kept = used[self.segment, whole.carriers]
        segments = replace(
            whole,
            number=np.take_along_axis(renumbered, number, axis=1),
            counts=used.sum(axis=1),
            start=np.concatenate([[0], np.cumsum(kept)])[whole.start],
            carriers=renumbered[self.segment[kept], whole.carriers[kept]].astype(np.uint32),
        )
        return replace(self.compiled, segments=segments)


@dataclass(frozen=True)
class ReadyWindow:
    """``whole`` is None where what is retrieved is encoded when it is known."""

    context: WindowContext
    whole: WholeWindow | None = None

    def narrowed(self, model: Variant, rows: Tensor) -> tuple[WindowContext, Tensor, Any]:
        """The window with those rows of the memory alone that ``rows`` [n, k] names, ``rows`` renumbered, and what the
        model makes of the patterns that are left."""
        context, renumbered = self.context.keeping(rows)
        if self.whole is None:
            return context, renumbered, model.encode_patterns(context.patterns, context.sites)
        patterns = torch.unique(self.context.pattern_of[torch.unique(rows)])  # numbered as in ``keeping``
        return context, renumbered, self.whole.narrowed(patterns.numpy())


class KeptWindows:
    """The last used windows of a bundle's panels, ``most_bytes`` in all; with 0 none is kept. Thread-safe."""

    def __init__(self, most_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self.n_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[ReadyWindow, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: Hashable) -> ReadyWindow | None:
        with self._lock:
            found = self._kept.get(name)
            if found is None:
                return None
            self._kept.move_to_end(name)
            return found[0]

    def add(self, name: Hashable, ready: ReadyWindow) -> None:
        size = _n_bytes(ready)
        with self._lock:
            if name not in self._kept and size <= self.most_bytes:
                self._kept[name] = ready, size
                self.n_bytes += size
            while self.n_bytes > self.most_bytes:
                self.n_bytes -= self._kept.popitem(last=False)[1][1]


class ReadyWindows:
    """Of one model and memory, from those ``kept`` where they are among them. Thread-safe.

    What is predicted is the same, bit for bit, whether a window was kept or not. ``k``: haplotypes that are retrieved;
    ``features``: ``memory_features``, on the device of the windows.
    """

    def __init__(self, model: Variant, memory: ReferenceSubset, features: Tensor, k: int, kept: KeptWindows) -> None:
        self._model = model
        self._memory = memory
        self._features = features
        self._encodes_whole = kept.most_bytes > 0 and len(memory) <= _MAX_TIMES_RETRIEVED * k
        self._kept = kept

    def get(self, window: Window, key: npt.NDArray[np.int64], *, drawn: bool = False) -> ReadyWindow:
        """The window for typed key sites [t], where queries are ``drawn`` (``SiteContext``) or not."""
        name = (self._memory.panel.digest, window.start, window.stop, key.tobytes(), drawn)
        ready = self._kept.get(name)
        if ready is None:
            ready = self._make(window, key, drawn)
            self._kept.add(name, ready)
        return ready

    def _make(self, window: Window, key: npt.NDArray[np.int64], drawn: bool) -> ReadyWindow:
        context = WindowContext.build(self._memory, self._features, window, key, self._features.device)
        context = replace(context, sites=replace(context.sites, drawn=drawn))
        # What others make of the patterns cannot be narrowed.
        if not self._encodes_whole or not self._model.is_hmm:
            return ReadyWindow(context)
        compiled = self._model.encode_patterns(context.patterns, context.sites)
        return ReadyWindow(context, None if compiled is None else WholeWindow.of(compiled))


def _n_bytes(value: Any) -> int:
    """Of the arrays and tensors in a dataclass, and in those that it holds."""
    if isinstance(value, np.ndarray | Tensor):
        return int(value.nbytes)
    return sum(_n_bytes(getattr(value, part.name)) for part in fields(value)) if is_dataclass(value) else 0
