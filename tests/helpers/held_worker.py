"""The real worker, but that it can be held in the middle of a job: ``python -m tests.helpers.held_worker``.

While the file ``hold`` is in its data folder, no window is begun whose number is not less than the one it holds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vcfbert.imputation.window_predictor import WindowPredictor

from service import worker
from service.settings import read_settings

HOLD = "hold"


def hold_back(data: Path) -> None:
    predict = WindowPredictor.predict

    def held(predictor: WindowPredictor, part: Any, window: Any, *given: Any) -> Any:
        while window.index >= _allowed(data / HOLD):
            time.sleep(0.02)
        return predict(predictor, part, window, *given)

    WindowPredictor.predict = held  # type: ignore[method-assign]


def _allowed(path: Path) -> float:
    try:
        return float(path.read_text() or 0)
    except FileNotFoundError:
        return float("inf")


if __name__ == "__main__":
    hold_back(read_settings().data)
    worker.main()
