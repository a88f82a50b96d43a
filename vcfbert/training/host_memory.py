"""Memory while training: given back when it can be, and an error that says what to do where there is none left."""

from __future__ import annotations

import contextlib
import ctypes
from contextlib import contextmanager
from typing import Any

import torch

from vcfbert.config import TrainConfig
from vcfbert.errors import ResourceError


def trim_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc).

    Retrieval windows differ from batch to batch, and so do the sizes of what is allocated: left alone, the heap grows
    by holes, some 250 MB an epoch of the demo.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def memory_errors(config: TrainConfig) -> Any:
    """Turns torch's out-of-memory errors into one that says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and "allocate memory" not in str(error)
        ):
            raise
        raise ResourceError(
            "out_of_memory",
            f"the machine ran out of memory with batches of {config.batch_size} samples",
            hint=(
                f"halve train.batch_size ({config.batch_size}) and double train.accumulate ({config.accumulate}) for "
                "the same result, shorten encode.window, or take the smaller profile: `vcfbert config show cpu`"
            ),
        ) from error
