"""When a network's parts run in compiled code (``encoder_kernel.py``, ``genotype_kernel.py``) and not in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcfbert.kernels import are_compiled


def runs_compiled(part: nn.Module, x: Tensor) -> bool:
    """Whether ``part`` may compute its output for ``x`` in compiled code: on the CPU in float32, without gradient."""
    fixed = not part.training and not torch.is_grad_enabled()
    return fixed and x.dtype == torch.float32 and x.device.type == "cpu" and are_compiled()
