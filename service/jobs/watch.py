"""Asks the job table and the queue from time to time whether they answer, so that no probe has to wait for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from vcfbert.errors import VcfbertError

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0


class BackendWatch:
    """``checks``: by name, functions that raise VcfbertError while something does not answer."""

    def __init__(self, checks: Mapping[str, Callable[[], object]], period: float | None = None) -> None:
        self._checks = checks
        self._period = PERIOD_SECONDS if period is None else period
        self._sick: dict[str, str] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="backends", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def sick(self) -> Mapping[str, str]:
        """Code of the error of each backend that did not answer the last time."""
        return dict(self._sick)

    def _run(self) -> None:
        while not self._stopped.wait(self._period):
            for name, check in self._checks.items():
                self.ask(name, check)

    def ask(self, name: str, check: Callable[[], object]) -> None:
        try:
            check()
        except VcfbertError as error:
            if name not in self._sick:
                log.warning("%s: %s (%s)", name, error.what, error.code)
            self._sick[name] = error.code
        else:
            if self._sick.pop(name, None) is not None:
                log.warning("%s: it answers again", name)
