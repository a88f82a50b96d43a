"""V18 without torch: predictions, files and errors are those of the network in torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny import perturbed_bundle, random_panel, target_of, tiny_config
from vcfbert.bundle import compiled_network
from vcfbert.bundle.compiled_network import CompiledNetwork
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import LoadedNetwork
from vcfbert.constants import ABSENT, MISSING
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.sites import MatchedTarget
from vcfbert.imputation import v18_predictor
from vcfbert.imputation.imputer import Imputer
from vcfbert.imputation.v18_predictor import V18Predictor
from vcfbert.kernels import Floats, are_compiled

PANEL = random_panel(30, 300, seed=1)
TYPED = np.arange(1, 300, 5)

pytestmark = pytest.mark.skipif(not are_compiled(), reason="the kernels were not compiled")


@pytest.fixture(scope="module", params=[8, 0], ids=["k8", "k0"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "v18"
    perturbed_bundle(
        folder, [PANEL], "v18", tiny_config({"retrieval": {"k": {"v17": 0, "v18": request.param, "v19": 4}}})
    )
    return folder


def target() -> MatchedTarget:
    made = target_of(PANEL, [2, 7, 7, 19, 28], TYPED)
    made.alleles[4:9, 1] = MISSING
    made.alleles[:, 3, 1] = ABSENT
    return made


def imputed(imputer: Imputer) -> tuple[Floats, Floats]:
    """Haplotype dosages [300, 5, 2] and genotype probabilities [300, 5, 3]."""
    blocks = list(imputer.impute(target()))
    return tuple(np.concatenate([getattr(b, f) for b in blocks]) for f in ("haplotype_dosage", "genotype_probability"))


def test_compiled_bundle_predicts_what_torch_predicts(folder: Path) -> None:
    own, other = (load_bundle(folder, only_imputes=only_imputes) for only_imputes in (True, False))
    assert isinstance(own.model, CompiledNetwork)
    assert isinstance(other.model, LoadedNetwork)
    assert isinstance(Imputer(own)._predictor, V18Predictor)
    for ours, theirs in zip(imputed(Imputer(own)), imputed(Imputer(other)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_prediction_does_not_depend_on_threads_groups_or_kept_windows(
    folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(folder, only_imputes=True)
    expected = imputed(Imputer(bundle, threads=1))
    monkeypatch.setattr(v18_predictor, "_FEATURES_AT_ONCE", 1)
    imputer = Imputer(bundle, threads=threads, batch_size=2, kept_bytes=1 << 24)
    for _ in range(2):
        for ours, theirs in zip(imputed(imputer), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_cancelled_imputation_begins_no_further_window(folder: Path) -> None:
    bundle, begun = load_bundle(folder, only_imputes=True), 0

    def cancelled() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Imputer(bundle, threads=2).impute(target(), cancelled=cancelled))
    assert begun == 3


def test_command_line_imputes_without_torch(folder: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vcfbert.bundle.load import load_bundle\n"
        "from vcfbert.imputation.imputer import Imputer\n"
        "Imputer(load_bundle(Path(sys.argv[1]), only_imputes=True))\n"
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("device", "gpu", "without"), [("cpu", True, True), ("auto", True, False), ("auto", False, True)]
)
def test_machine_that_may_have_a_gpu_asks_torch(
    device: str, gpu: bool, without: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_network, "_GPUS", (tmp_path if gpu else tmp_path / "missing",))
    assert compiled_network.runs_without_torch("v18", device) is without
    assert not compiled_network.runs_without_torch("v17", device)


def test_weights_of_another_shape_are_refused_as_by_torch(tmp_path: Path) -> None:
    folder = tmp_path / "v18"
    perturbed_bundle(folder, [PANEL], "v18")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dims": 8', '"dims": 16'))
    with pytest.raises(ArtifactError, match="weights") as refused:
        load_bundle(folder, only_imputes=True)
    assert refused.value.code == "bundle_damaged"
