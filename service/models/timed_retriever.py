"""A retriever that measures its searches."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from vcfbert.retrieval.base import Retriever


class TimedRetriever(Retriever):
    """Wraps ``retriever`` and reports the seconds of each search to ``observe``."""

    def __init__(self, retriever: Retriever, observe: Callable[[float], None]) -> None:
        super().__init__(retriever.index)
        self._retriever = retriever
        self._observe = observe

    def profile(self, distance_cm: Tensor) -> Tensor:
        return self._retriever.profile(distance_cm)

    def retrieve(
        self,
        sites: Tensor,
        distance_cm: Tensor,
        queries: Tensor,
        k: int,
        *,
        known: Tensor | None = None,
        exclude: Tensor | None = None,
    ) -> Tensor:
        started = time.perf_counter()
        rows = self._retriever.retrieve(sites, distance_cm, queries, k, known=known, exclude=exclude)
        self._observe(time.perf_counter() - started)
        return rows
