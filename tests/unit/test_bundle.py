from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.helpers.tiny import (
    perturbed,
    perturbed_bundle,
    perturbed_copying_model,
    random_panel,
    target_of,
    tiny_config,
)
from vcfbert.artifacts import MANIFEST, sha256_file
from vcfbert.bundle.contents import Model, save_copying_model, whole_panel
from vcfbert.bundle.load import load_bundle
from vcfbert.bundle.network import LoadedNetwork, Searched, save_network
from vcfbert.copying.mixture import CopyingModel
from vcfbert.errors import ArtifactError, ResourceError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.store import write_panels
from vcfbert.imputation.imputer import Imputer
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.refresh import build_retriever

PANEL = random_panel(10, 130, seed=1, validation=(2, 5))
CONFIG = tiny_config()
TYPED = np.arange(0, 130, 4)
PANEL_FILES = ("00/numbers.npy", "00/rows.npy", "00/sites.npz", "manifest.json")
FILES = ("weights.safetensors", "index/00.faiss", *(f"panel/{name}" for name in PANEL_FILES))


def save(out: Path, variant: str = "v18", *, panel: Panel = PANEL) -> Model:
    """Writes a bundle of a new model, and returns the model as it has to be loaded."""
    about: dict[str, Any] = {"metrics": {"val/r2/all": 0.5}, "data": {"panel": "abc"}}
    if variant == "v19":
        model = perturbed_copying_model()
        save_copying_model(out, model, [panel], CONFIG, **about)
        return model
    network = perturbed(variant, CONFIG.model)
    save_network(out, network, [panel], CONFIG, **about)
    cpu, reference = torch.device("cpu"), whole_panel(panel)
    features = reference_features(reference, cpu)
    searched = Searched(build_retriever(network, reference, features, device=cpu), features)
    return LoadedNetwork(network.eval(), {panel.digest: searched}, cpu)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "v18"
    save(out)
    return out


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "v18"))


def refused(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_bundle(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value.code


def edit_manifest(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    manifest = json.loads((path / MANIFEST).read_text())
    change(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def accept_hash(path: Path, name: str) -> None:
    """Records the changed file's hash, as if it had been written so."""
    edit_manifest(path, lambda manifest: manifest["files"].update({name: sha256_file(path / name)}))


@pytest.mark.parametrize("variant", ["v17", "v18", "v19"])
def test_loaded_bundle_predicts_as_the_saved_model(tmp_path: Path, variant: str) -> None:
    model = save(tmp_path / "bundle", variant)
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.variant, loaded.k, loaded.panels[0].digest) == (variant, CONFIG.retrieval.k[variant], PANEL.digest)
    assert loaded.manifest["metrics"] == {"val/r2/all": 0.5}
    assert loaded.panels[0].validation == PANEL.validation
    fresh = dataclasses.replace(loaded, model=model)
    target = target_of(PANEL, [1, 7], TYPED)
    for one, other in zip(Imputer(loaded).impute(target), Imputer(fresh).impute(target), strict=True):
        np.testing.assert_array_equal(one.haplotype_dosage, other.haplotype_dosage)
        if variant != "v19":  # whose haplotypes are independent
            assert one.genotype_probability is not None
            assert other.genotype_probability is not None
            np.testing.assert_array_equal(one.genotype_probability, other.genotype_probability)


def test_bundle_retrieves_from_the_whole_panel(saved: Path) -> None:
    assert load_bundle(saved).parts[0].reference.haplotypes.tolist() == list(range(20))


@pytest.mark.parametrize("variant", ["v18", "v19"])
def test_k_is_at_most_the_number_of_haplotypes(tmp_path: Path, variant: str) -> None:
    config = tiny_config({"retrieval": {"k": {"v17": 99, "v18": 99, "v19": 99}}})
    loaded = perturbed_bundle(tmp_path / "b", [PANEL], variant, config)
    assert loaded.k == 20
    assert list(Imputer(loaded).impute(target_of(PANEL, [1], TYPED)))


def test_manifest_has_the_hash_of_every_file(saved: Path) -> None:
    found = {p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()}
    assert found == {*FILES, MANIFEST}
    manifest = json.loads((saved / MANIFEST).read_text())
    assert set(manifest["files"]) == set(FILES)
    assert manifest["provenance"].keys() == {"git_commit", "packages"}


@pytest.mark.parametrize("name", FILES)
def test_changed_byte_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert refused(bundle) == "bundle_hash"


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert refused(bundle) == "bundle_hash"


def test_missing_and_unfinished_bundles_are_refused(bundle: Path) -> None:
    assert refused(bundle / "nothing") == "bundle_missing"
    (bundle / MANIFEST).unlink()
    assert refused(bundle) == "bundle_unfinished"


def test_truncated_manifest_is_refused(bundle: Path) -> None:
    content = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(content[: len(content) // 2])
    assert refused(bundle) == "bundle_damaged"


@pytest.mark.parametrize("name", ["variant", "k", "encode", "model", "panel_digest"])
def test_manifest_without_a_required_key_is_refused(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.pop(name))
    assert refused(bundle) == "bundle_damaged"


def test_other_format_version_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(format_version=99))
    assert refused(bundle) == "bundle_format"


def test_artifact_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_panels([PANEL], tmp_path / "panel")
    assert refused(tmp_path / "panel") == "bundle_format"


def test_other_panel_is_refused(bundle: Path) -> None:
    other = random_panel(10, 130, seed=2, validation=(2, 5))
    write_panels([other], bundle / "panel")
    for name in FILES[2:]:
        accept_hash(bundle, name)
    assert refused(bundle) == "bundle_panel"


def test_unknown_variant_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(variant="v99"))
    assert refused(bundle) == "bundle_variant"


@pytest.mark.parametrize("change", [{"dims": 16}, {"layers": 2}])
def test_weights_of_other_dimensions_are_refused(bundle: Path, change: dict[str, int]) -> None:
    edit_manifest(bundle, lambda manifest: manifest["model"].update(change))
    assert refused(bundle) == "bundle_damaged"


@pytest.mark.parametrize("variant", ["v17", "v19"])
def test_weights_of_another_variant_are_refused(bundle: Path, variant: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(variant=variant))
    assert refused(bundle) == "bundle_damaged"


def test_weights_that_are_not_safetensors_are_refused(bundle: Path) -> None:
    (bundle / "weights.safetensors").write_bytes(b"\x00" * 64)
    accept_hash(bundle, "weights.safetensors")
    assert refused(bundle) == "bundle_damaged"


@pytest.fixture
def copying_bundle(tmp_path: Path) -> Path:
    save(tmp_path / "v19", "v19")
    return tmp_path / "v19"


def test_bundle_of_v19_has_its_arrays_and_no_index(copying_bundle: Path) -> None:
    assert set(json.loads((copying_bundle / MANIFEST).read_text())["files"]) == set(FILES) - {"index/00.faiss"}
    arrays = load_file(copying_bundle / "weights.safetensors")
    expected = perturbed_copying_model().as_arrays()
    assert arrays.keys() == expected.keys()
    model = load_bundle(copying_bundle).model
    assert isinstance(model, CopyingModel)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
        np.testing.assert_array_equal(model.as_arrays()[name], array, err_msg=name)


def without_pair(arrays: dict[str, npt.NDArray[np.float64]]) -> None:
    arrays["rates"] = arrays["rates"][:2]


def without_weights(arrays: dict[str, npt.NDArray[np.float64]]) -> None:
    del arrays["sampled_weights"]


def with_nan(arrays: dict[str, npt.NDArray[np.float64]]) -> None:
    arrays["phased_weights"][1, 2] = np.nan


def with_negative_rate(arrays: dict[str, npt.NDArray[np.float64]]) -> None:
    arrays["rates"][0, 0] *= -1.0


def with_another_array(arrays: dict[str, npt.NDArray[np.float64]]) -> None:
    arrays["embedding"] = np.zeros(3)


@pytest.mark.parametrize(
    "change",
    [without_pair, without_weights, with_nan, with_negative_rate, with_another_array],
    ids=lambda f: f.__name__,
)
def test_arrays_that_are_not_a_copying_model_are_refused(
    copying_bundle: Path, change: Callable[[dict[str, npt.NDArray[np.float64]]], None]
) -> None:
    path = copying_bundle / "weights.safetensors"
    arrays = {name: array.copy() for name, array in load_file(path).items()}
    change(arrays)
    save_file(arrays, path)
    accept_hash(copying_bundle, "weights.safetensors")
    assert refused(copying_bundle) == "bundle_damaged"


def test_weights_of_v19_that_are_not_safetensors_are_refused(copying_bundle: Path) -> None:
    (copying_bundle / "weights.safetensors").write_bytes(b"\x00" * 64)
    accept_hash(copying_bundle, "weights.safetensors")
    assert refused(copying_bundle) == "bundle_damaged"


LIES: dict[str, tuple[Any, ...]] = {
    "variant": (19, None, ["v19"]),
    "panel_digest": (7, None, {}),
    "k": ("12", None, -3, 1.5, True, 2**31, [12]),
    "metrics": (None, "good", [1]),
    "model": (None, "big", 3),
    "encode": (None, "64", []),
    "encode.copy_window": (0, -64, 7, "64", None, 64.0, False),
    "encode.copy_span_cm": ("0.3", None, -0.1, float("nan"), float("inf"), True, [0.3]),
}


@pytest.mark.parametrize("variant", ["v18", "v19"])
@pytest.mark.parametrize("name", LIES)
def test_setting_of_another_type_or_value_is_refused_by_name(
    bundle: Path, copying_bundle: Path, name: str, variant: str
) -> None:
    folder = bundle if variant == "v18" else copying_bundle
    section, _, key = name.rpartition(".")
    for value in LIES[name]:

        def lie(manifest: dict[str, Any], value: Any = value) -> None:
            (manifest[section] if section else manifest)[key] = value

        before = (folder / MANIFEST).read_bytes()
        edit_manifest(folder, lie)
        with pytest.raises(ArtifactError) as caught:
            load_bundle(folder)
        assert (caught.value.code, caught.value.exit_code) == ("bundle_damaged", 2)
        assert re.search(rf"{re.escape(name)} is .*; it must be a ", caught.value.what), caught.value.what
        assert "copy the whole bundle again" in str(caught.value)
        (folder / MANIFEST).write_bytes(before)


def test_v19_that_retrieves_nothing_is_refused(copying_bundle: Path) -> None:
    edit_manifest(copying_bundle, lambda manifest: manifest.update(k=0))
    with pytest.raises(ArtifactError, match="k is 0; it must be a whole number of at least 1 for V19") as caught:
        load_bundle(copying_bundle)
    assert caught.value.code == "bundle_damaged"


@pytest.mark.parametrize("name", ["k", "model", "encode.copy_window"])
def test_missing_setting_is_refused_by_name(copying_bundle: Path, name: str) -> None:
    section, _, key = name.rpartition(".")
    edit_manifest(copying_bundle, lambda manifest: (manifest[section] if section else manifest).pop(key))
    with pytest.raises(ArtifactError, match=f"lacks {re.escape(name)}") as caught:
        load_bundle(copying_bundle)
    assert caught.value.code == "bundle_damaged"


def test_more_retrieved_haplotypes_than_the_panel_has_are_refused(copying_bundle: Path) -> None:
    edit_manifest(copying_bundle, lambda manifest: manifest.update(k=PANEL.n_haplotypes + 1))
    with pytest.raises(ArtifactError, match=f"k is 21, but a panel has {PANEL.n_haplotypes} haplotypes") as caught:
        load_bundle(copying_bundle)
    assert caught.value.code == "bundle_damaged"


@pytest.mark.parametrize(("section", "change"), [("model", {"dims": "8"}), ("encode", {"window": None})])
def test_section_that_a_network_cannot_use_is_refused_as_the_bundles(
    bundle: Path, section: str, change: dict[str, Any]
) -> None:
    edit_manifest(bundle, lambda manifest: manifest[section].update(change))
    with pytest.raises(ArtifactError, match=f"{section}\\.{next(iter(change))} is ") as caught:
        load_bundle(bundle)
    assert caught.value.code == "bundle_damaged"


@pytest.mark.parametrize("variant", ["v18", "v19"])
@pytest.mark.parametrize("listed", [True, False])
def test_missing_weights_are_refused(bundle: Path, copying_bundle: Path, variant: str, listed: bool) -> None:
    """Whether the manifest lists them or not."""
    folder = bundle if variant == "v18" else copying_bundle
    (folder / "weights.safetensors").unlink()
    if not listed:
        edit_manifest(folder, lambda manifest: manifest["files"].pop("weights.safetensors"))
    with pytest.raises(ArtifactError, match=r"weights\.safetensors is missing") as caught:
        load_bundle(folder)
    assert (caught.value.code, caught.value.exit_code) == ("bundle_hash" if listed else "bundle_damaged", 2)


@pytest.mark.parametrize("kind", ["dimension", "count", "metric", "damaged"])
def test_index_that_does_not_match_the_panel_is_refused(bundle: Path, kind: str) -> None:
    path = bundle / "index/00.faiss"
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "metric":
        index = faiss.IndexScalarQuantizer(130, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT)
        index.train(np.eye(20, 130, dtype=np.float32))
        index.add(np.eye(20, 130, dtype=np.float32))
        faiss.write_index(index, str(path))
    else:
        panel = random_panel(9, 130) if kind == "count" else random_panel(10, 129)
        FaissKeyIndex.build(whole_panel(panel), torch.ones(panel.n_sites)).save(path)
    accept_hash(bundle, "index/00.faiss")
    with pytest.raises(ArtifactError) as caught:
        load_bundle(bundle)
    assert caught.value.code == ("index_damaged" if kind == "damaged" else "index_mismatch")


def test_interrupted_write_keeps_the_earlier_bundle(
    tmp_path: Path, full_disk: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "v18"
    save(out)
    before = (out / MANIFEST).read_bytes()

    full_disk()
    with pytest.raises(ResourceError, match="No space left"):
        save(out)
    with pytest.raises(ResourceError):
        save(tmp_path / "new")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["v18"]
    assert (out / MANIFEST).read_bytes() == before
    load_bundle(out)


@pytest.mark.parametrize(
    ("variant", "step"),
    [
        ("v18", "network.save"),
        ("v18", "contents.write_panels"),
        ("v19", "contents.save"),
        ("v19", "contents.write_panels"),
    ],
)
def test_failed_write_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, step: str
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"vcfbert.bundle.{step}", fail)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "model", variant)
    assert list(tmp_path.iterdir()) == []
