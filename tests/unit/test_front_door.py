"""The public names of ``import vcfbert``: lazy, quick, and with examples that run."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import vcfbert
from tests.helpers.demo_cut import GENETIC_MAP, cut_demo

HEAVY = ("torch", "mlflow", "numpy", "pandas", "faiss")
MAX_IMPORT_SECONDS = 0.1
EXAMPLES = ("fit_panel", "load_bundle", "impute_file", "evaluate_files", "read_panel")


def test_import_loads_no_heavy_package() -> None:
    code = f"import sys, vcfbert; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_takes_under_a_tenth_of_a_second() -> None:
    code = "import time; start = time.process_time(); import vcfbert; print(time.process_time() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < MAX_IMPORT_SECONDS


def test_every_public_name_resolves_and_is_documented() -> None:
    for name in set(vcfbert.__all__) - {"__version__"}:
        assert getattr(vcfbert, name).__doc__


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'imputer'"):
        vcfbert.imputer  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert dir(vcfbert) == sorted(vcfbert.__all__)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples name."""
    folder = tmp_path_factory.mktemp("front-door")
    cut_demo(folder, samples=30, sites=300, targets=6)
    (folder / "target_truth.vcf.gz").rename(folder / "truth.vcf.gz")
    (folder / "target_array.vcf.gz").rename(folder / "array.vcf.gz")
    (folder / "chr20.gmap.gz").symlink_to(GENETIC_MAP)
    return folder


@pytest.mark.integration  # fits and imputes: seconds of work
def test_examples_run(example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vcfbert import api

    monkeypatch.chdir(example_folder)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    # In the order of use: later examples read what earlier ones wrote.
    for documented in (vcfbert, *(getattr(api, name) for name in EXAMPLES), vcfbert.Imputer):
        name = getattr(documented, "__name__", "vcfbert")
        for test in finder.find(documented, name, globs={"vcfbert": vcfbert}):
            assert runner.run(test).failed == 0, test.name
    assert runner.summarize(verbose=False).attempted > len(EXAMPLES)


class Heard:
    """A fit's progress, kept as names of the methods called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def begin(self, title: str, steps: int | None) -> None:
        self.names.append("begin")

    def step(self, figures: str) -> None:
        self.names.append("step")

    def message(self, text: str) -> None:
        self.names.append("message")


def test_fit_panel_reports_to_its_progress(example_folder: Path, tmp_path: Path) -> None:
    heard = Heard()
    vcfbert.fit_panel(example_folder / "panel.vcf.gz", tmp_path / "bundle", progress=heard)
    assert set(heard.names) == {"begin", "step", "message"}
