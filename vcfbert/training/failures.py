"""Failures of training that another configuration avoids. Their errors name that configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vcfbert.config import TrainConfig
from vcfbert.errors import ResourceError, VcfbertError


def check_finite(loss: float, where: str) -> None:
    """Raises VcfbertError('diverged') if ``loss`` is infinite or NaN; ``where`` names the step for the message."""
    if not math.isfinite(loss):
        raise VcfbertError(
            "diverged",
            f"the loss became {loss} in {where}",
            hint="lower train.lr, or lengthen train.warmup_steps",
        )


@contextmanager
def memory_errors(config: TrainConfig) -> Iterator[None]:
    """Turns out-of-memory errors of the host or a GPU into ResourceError('out_of_memory') with a hint."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ResourceError(
            "out_of_memory",
            f"the machine ran out of memory with batches of {config.batch_size} samples",
            hint=(
                f"halve train.batch_size ({config.batch_size}) and double train.accumulate ({config.accumulate}) for "
                "the same result, shorten encode.window, or take the smaller profile: `vcfbert config show cpu`"
            ),
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's allocator on CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
