"""How far an imputation is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], None]  # told how many more sites are done


class SitesDone:
    """Tells ``progress`` of ``n_sites`` in all: of a third of them while there is phasing, if there is any, as it takes
    about half as long as imputing what was phased does; of the others as they are imputed."""

    def __init__(self, progress: Progress | None, n_sites: int) -> None:
        self._progress = progress
        self._n_sites = n_sites
        self._by_phasing = 0
        self._imputed = 0
        self._told = 0

    def phased(self, share: float) -> None:
        """``share`` of the phasing is done."""
        self._by_phasing = int(share * self._n_sites / 3)
        self._tell(self._by_phasing)

    def imputed(self, more: int) -> None:
        """So many ``more`` sites are imputed; all phasing is over."""
        self._imputed += more
        left = self._n_sites - self._by_phasing
        self._tell(self._by_phasing + self._imputed * left // self._n_sites)

    def _tell(self, done: int) -> None:
        if self._progress is not None and done > self._told:
            self._progress(done - self._told)
        self._told = done
