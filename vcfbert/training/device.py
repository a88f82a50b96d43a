"""Devices and ranks of a run, by Lightning Fabric."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from vcfbert.config import TrainConfig
from vcfbert.training.host_memory import peak_memory_mb


def fabric_of(config: TrainConfig, accelerator: str, devices: int) -> Fabric:
    """Fabric for ``devices`` ranks: on CUDA if ``accelerator`` allows it and a GPU is present, else on the CPU.

    Automatic precision is bfloat16 on CUDA and float32 on the CPU.
    """
    cuda = accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if cuda else "32-true"
    strategy = "ddp" if devices > 1 else "auto"
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=devices, strategy=strategy, precision=precision)


def mean_over_ranks(fabric: Fabric, value: float) -> float:
    """The mean of ``value`` over ranks, on every rank."""
    reduced = fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="mean")
    return float(reduced)  # type: ignore[arg-type]


def memory_use(fabric: Fabric) -> dict[str, float]:
    """Peak memory of this process in MB: host memory, and memory of the CUDA device if one is used."""
    use = {"peak_rss_mb": peak_memory_mb()}
    if fabric.device.type == "cuda":
        use["peak_cuda_mb"] = torch.cuda.max_memory_allocated(fabric.device) / 2**20
    return use
