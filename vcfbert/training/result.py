"""What a fit returns, whichever variant it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Called after each epoch's checkpoint with the epoch (from 0) and its figures. False ends the training there, as if the
# epoch were the last. Every rank calls it, and all must get the same answer.
AfterEpoch = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True)
class FitResult:
    """The result of a fit. ``run_id`` and ``model_uri`` are '' where no run or no bundle is recorded."""

    run_id: str
    model_uri: str
    metrics: dict[str, float]  # of the best epoch
    seconds: float  # spent training, before interruptions too
    parameters: int
    data_digest: str  # of the panels that the figures were measured on
    rank: int = 0  # of the process, of those that trained together; the first one reports
