"""The real worker, but that it can be held in the middle of a job: ``python -m tests.helpers.held_worker``.

While the file ``hold`` is in its data folder, no window is begun whose number is not less than the one it holds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from service import worker
from service.settings import read_settings
from vcfbert.imputation import imputer
from vcfbert.imputation.window_prediction import WindowPredictor

HOLD = "hold"


class Held:
    """Waits before each window that is held back."""

    def __init__(self, predictor: WindowPredictor, data: Path) -> None:
        self._predictor = predictor
        self._data = data
        self.windows_at_once = 1

    def predict(self, part: Any, window: Any, phased: Any) -> Any:
        while window.index >= _allowed(self._data / HOLD):
            time.sleep(0.02)
        return self._predictor.predict(part, window, phased)


def hold_back(data: Path) -> None:
    predictor_of = imputer.predictor_of
    imputer.predictor_of = lambda bundle, options: Held(predictor_of(bundle, options), data)


def _allowed(path: Path) -> float:
    try:
        return float(path.read_text() or 0)
    except FileNotFoundError:
        return float("inf")


if __name__ == "__main__":
    hold_back(read_settings().data)
    worker.main()
