from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, here and in every child process: tests work on small arrays, where a second OpenMP thread
# costs more CPU time than it saves.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from tests.helpers.command_line import TinyFiles, cut_tiny
from tests.helpers.panels import subset_panel
from vcfbert.genotypes.conversion import build_panels
from vcfbert.genotypes.panel import Panel

TESTS = Path(__file__).parent
DEMO = TESTS.parent / "data" / "demo"
UNIT_FOLDERS = ("unit", "property", "contract")

# The same examples in every run, so that a change alone decides whether its tests pass. `make test-slow` draws others.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("drawn", derandomize=False, print_blob=True)
hypothesis.settings.load_profile("fixed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests outside of ``UNIT_FOLDERS`` as integration tests."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] not in UNIT_FOLDERS:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def demo_cut(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """The demo panel's first 100 kb, all samples."""
    (panel,) = build_panels(
        [DEMO / "panel.vcf.gz"],
        tmp_path_factory.mktemp("cut") / "panel",
        maps=[DEMO / "chr20.b37.gmap.gz"],
        region="20:1000000-1100000",
        holdout=0.1,
        seed=17,
    )
    return panel


@pytest.fixture(scope="session")
def tiny_panel(demo_cut: Panel) -> Panel:
    """24 real samples, 4 of them held out, at the first 200 sites where they vary."""
    held_out = list(demo_cut.validation[:4])
    kept = [i for i in range(len(demo_cut.samples)) if i not in set(demo_cut.validation)][:20]
    few = subset_panel(demo_cut, samples=sorted(kept + held_out))
    return subset_panel(few, sites=np.flatnonzero(few.maf > 0)[:200])


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> TinyFiles:
    """Tiny cuts of the demo data and bundles fitted to them, once a session. Tests only read them."""
    return cut_tiny(tmp_path_factory.mktemp("tiny"))
