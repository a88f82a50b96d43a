from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.registry import CPUDispatcher

import vcfbert


@pytest.mark.slow  # compiles everything: more than a minute
def test_compile_kernels_compiles_every_kernel(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "vcfbert.compile_kernels"], check=True, env=environment)
    compiled = {path.name.split("-")[0] for path in tmp_path.rglob("*.nbi")}  # such as blocks.block_of-99.py311.nbi
    kernels = set()
    for room in ("copying", "genotypes"):
        for module in pkgutil.iter_modules([f"{vcfbert.__path__[0]}/{room}"], f"vcfbert.{room}."):
            found = vars(importlib.import_module(module.name)).values()
            kernels |= {f for f in found if isinstance(f, CPUDispatcher)}
    names = {f"{kernel.py_func.__module__.rpartition('.')[2]}.{kernel.py_func.__name__}" for kernel in kernels}
    assert names
    assert names - compiled == set()
