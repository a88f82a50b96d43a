"""Tests of the link between numpy functions and their compiled twins."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vcfbert.kernels as kernels
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.imputed import moments
from vcfbert.kernels import LIBRARIES, Doubles, Floats, compiled

ROOT = Path(__file__).parents[3]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(kernels, "LIBRARIES", tmp_path)
    kernels._library.cache_clear()
    yield
    kernels._library.cache_clear()


@pytest.mark.parametrize(
    "values", [np.zeros((2, 3)), np.zeros((3, 2), np.float32).T, np.zeros((2, 6), np.float32)[:, ::2]]
)
def test_array_of_another_type_or_not_contiguous_is_refused(values: np.ndarray) -> None:
    with pytest.raises(TypeError, match="moments: values"):
        moments(values, np.empty(2), np.empty(2))


def test_arguments_may_be_given_by_name() -> None:
    mean, variance = np.empty(1), np.empty(1)
    moments(np.array([[1.0, 3.0]], np.float32), variance=variance, mean=mean)
    assert (mean[0], variance[0]) == (2.0, 1.0)


def test_without_a_library_numpy_computes_after_one_warning_with_the_command(
    no_library: None, caplog: pytest.LogCaptureFixture
) -> None:
    mean, variance = np.empty(1), np.empty(1)
    for _ in range(2):
        moments(np.array([[1.0, 3.0]], np.float32), mean, variance)
    assert (mean[0], variance[0]) == (2.0, 1.0)
    (warned,) = caplog.records
    assert warned.levelname == "WARNING"
    assert warned.getMessage().startswith("the compiled kernels are missing")
    assert "run `make kernels`" in warned.getMessage()


def test_twin_without_memory_raises_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @compiled
    def moments(values: Floats, mean: Doubles, variance: Doubles) -> None: ...

    class Library:
        def __getattr__(self, name: str):
            return ctypes.CFUNCTYPE(ctypes.c_int64, *3 * [ctypes.c_void_p])(lambda *_: -1)

    monkeypatch.setattr(kernels, "_library", Library)
    with pytest.raises(MemoryError, match="moments"):
        moments(np.empty((1, 1), np.float32), np.empty(1), np.empty(1))


def test_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "sources_digest", lambda: "another")
    kernels._library.cache_clear()
    with pytest.raises(ArtifactError, match="other sources") as caught:
        kernels._library()
    assert (caught.value.code, caught.value.exit_code) == ("kernels_stale", 2)
    assert "run `make kernels`" in str(caught.value)


def test_file_that_is_no_library_is_refused(no_library: None) -> None:
    (kernels.LIBRARIES / "generic.so").write_bytes(b"half a file")
    with pytest.raises(ArtifactError, match="cannot be loaded") as caught:
        kernels._library()
    assert (caught.value.code, caught.value.exit_code) == ("kernels_stale", 2)


@pytest.mark.parametrize("name", ["generic", "avx2"])
def test_libraries_are_built_of_the_present_sources(name: str) -> None:
    found = list(LIBRARIES.glob(f"{name}*.so"))
    if name == "avx2" and not found:
        pytest.skip("no x86-64 processor")
    assert found, "run `make kernels`"
    library = ctypes.CDLL(str(found[0]))
    library.vcfbert_sources.restype = ctypes.c_char_p
    assert library.vcfbert_sources().decode() == kernels.sources_digest(), "run `make kernels`"


def test_kernels_load_nothing_but_numpy() -> None:
    code = "import sys, vcfbert.kernels; print([n for n in ('torch', 'scipy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"
