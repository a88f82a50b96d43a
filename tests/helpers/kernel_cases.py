"""A case of the contract of kernels: a kernel, and the function that makes its arguments."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import vcfbert
from vcfbert.kernels import Kernel

Arguments = Callable[[np.random.Generator], tuple[Any, ...]]
KernelCase = tuple[Kernel[..., Any], Arguments]


@cache
def kernels() -> dict[str, Kernel[..., Any]]:
    """Every kernel of the package by its name."""
    found: dict[str, Kernel[..., Any]] = {}
    for module in pkgutil.walk_packages(vcfbert.__path__, "vcfbert."):
        if module.name.split(".")[1] in ("copying", "genotypes", "imputation", "model"):
            members = vars(importlib.import_module(module.name)).values()
            found |= {member.name: member for member in members if isinstance(member, Kernel)}
    return found
