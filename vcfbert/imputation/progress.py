"""Progress of an imputation."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], None]  # receives the number of further sites that are done


class SitesDone:
    """Reports the progress of ``n_sites`` sites to ``progress``.

    Phasing counts as a third of the sites, because it takes about half as long as imputing phased calls. Without
    phasing, all sites count as they are imputed.
    """

    def __init__(self, progress: Progress | None, n_sites: int) -> None:
        self._progress = progress
        self._n_sites = n_sites
        self._by_phasing = 0
        self._imputed = 0
        self._reported = 0

    def phased(self, fraction: float) -> None:
        """``fraction`` of the phasing is done."""
        self._by_phasing = int(fraction * self._n_sites / 3)
        self._report(self._by_phasing)

    def imputed(self, n_sites: int) -> None:
        """``n_sites`` further sites are imputed. Phasing is complete by then."""
        self._imputed += n_sites
        rest = self._n_sites - self._by_phasing
        self._report(self._by_phasing + self._imputed * rest // self._n_sites)

    def _report(self, done: int) -> None:
        if self._progress is not None and done > self._reported:
            self._progress(done - self._reported)
        self._reported = done
