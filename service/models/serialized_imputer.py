"""An imputer shared by many requests. Each request holds the device only while its targets are predicted."""

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

OnDevice = Callable[[int], AbstractContextManager[object]]  # holds the device for that number of targets

# Maximum samples x sites (28 bytes each) predicted before any is written. For a few samples, writing takes longer than
# predicting; for many samples it does not.
_MAX_HELD: Final = 250_000


class SerializedImputer:
    """Wraps ``imputer`` and enters ``on_device`` while it predicts.

    Small results are predicted whole and yielded after the device is released. Other requests then do not wait while
    the file is written.
    """

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
        """As ``Imputer.impute``. Close the generator if it is not exhausted: it may hold the device."""
        first, last = sites or (0, self.bundle.part(target.panel_digest).panel.n_sites)
        with self._on_device(len(target.samples)):
            blocks = self._imputer.impute(target, sites=sites, progress=progress, cancelled=cancelled)
            if len(target.samples) * (last - first) > _MAX_HELD:
                yield from blocks
                return
            held = list(blocks)
        yield from held
