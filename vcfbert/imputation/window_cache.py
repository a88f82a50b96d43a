"""A cache of windows that were prepared for the typed sites of a target, for later targets typed at the same sites."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

from vcfbert.genotypes.panel import Panel

Ready = TypeVar("Ready")


class WindowCache(Generic[Ready]):
    """The most recently used windows of a bundle's panels, up to ``max_bytes``; 0 caches none. Thread-safe."""

    def __init__(self, max_bytes: int = 0) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._cached: OrderedDict[Hashable, tuple[Ready, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: Hashable) -> Ready | None:
        """The window cached under ``name``, None if there is none."""
        with self._lock:
            found = self._cached.get(name)
            if found is None:
                return None
            self._cached.move_to_end(name)
            return found[0]

    def add(self, name: Hashable, ready: Ready) -> None:
        """Caches a window, and drops those unused for longest to stay within the limit."""
        size = _n_bytes(ready)
        with self._lock:
            if name not in self._cached and size <= self.max_bytes:
                self._cached[name] = ready, size
                self.n_bytes += size
            while self.n_bytes > self.max_bytes:
                self.n_bytes -= self._cached.popitem(last=False)[1][1]


def _n_bytes(value: Any) -> int:
    """Size of the arrays and tensors in a dataclass and in the dataclasses and tuples that it holds, without the
    panel."""
    if isinstance(value, Panel):
        return 0
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, tuple):
        return sum(_n_bytes(part) for part in value)
    return sum(_n_bytes(getattr(value, part.name)) for part in fields(value)) if is_dataclass(value) else 0
