"""An imputer that many requests share: each has the device while its targets are predicted, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from vcfbert.genotypes.imputed import ImputedBlock

if TYPE_CHECKING:  # torch comes with it, which takes seconds to import
    from vcfbert.bundle import Bundle
    from vcfbert.genotypes.sites import MatchedTarget
    from vcfbert.imputation.imputer import Imputer
    from vcfbert.imputation.progress import Progress

OnDevice = Callable[[int], AbstractContextManager[object]]  # the device for so many targets

# Samples x sites, at 28 bytes each, that are held until they are written. Writing a few samples' file takes longer than
# predicting them; of many samples it does not.
_MAX_HELD: Final = 250_000


class SerializedImputer:
    """``imputer`` with ``on_device`` entered while it predicts: what is small is predicted whole and handed out after
    that, so that nobody waits for the device while another's file is read or written."""

    def __init__(self, imputer: Imputer, on_device: OnDevice) -> None:
        self._imputer = imputer
        self._on_device = on_device

    @property
    def bundle(self) -> Bundle:
        return self._imputer.bundle

    def impute(
        self,
        target: MatchedTarget,
        *,
        sites: tuple[int, int] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> Generator[ImputedBlock]:
        """As ``Imputer.impute``. To be closed where it is not read to its end: it may hold the device."""
        first, last = sites or (0, self.bundle.part(target.panel_digest).panel.n_sites)
        with self._on_device(len(target.samples)):
            blocks = self._imputer.impute(target, sites=sites, progress=progress, cancelled=cancelled)
            if len(target.samples) * (last - first) > _MAX_HELD:
                yield from blocks
                return
            held = list(blocks)
        yield from held
