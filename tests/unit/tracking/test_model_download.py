"""Entries of the registry that name files of this machine: nothing outside the artifact store is moved or read."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import yaml

from tests.unit.tracking.test_registry import GATE, bundle, candidates
from vcfbert.artifacts import SIGNATURE, bundle_digest
from vcfbert.errors import ArtifactError, InputError
from vcfbert.tracking.mlflow_tracker import BUNDLE_DIGEST_TAG
from vcfbert.tracking.model_cache import resolve
from vcfbert.tracking.promotion import publish
from vcfbert.tracking.registry import register

pytestmark = pytest.mark.integration  # each test fills an MLflow database of its own


def point_bundle_to(root: Path, path: str) -> Path:
    """Changes the logged model's entry to name ``path`` as its bundle. Returns the model's folder."""
    publish(candidates(root, v18=0.9), root=root, **GATE)
    (entry,) = (root / "mlartifacts").rglob("MLmodel")
    model = yaml.safe_load(entry.read_text())
    model["flavors"]["python_function"]["artifacts"]["bundle"]["path"] = path
    entry.write_text(yaml.safe_dump(model))
    return entry.parent


def refusal(root: Path, reference: str = "models:/vcfbert@champion") -> str:
    """The code of the refusal; nothing may be left in the cache."""
    cache = root / "cache"
    with pytest.raises(ArtifactError) as caught:
        resolve(reference, root=root, cache=cache)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    return caught.value.code


@pytest.mark.parametrize("form", ["absolute", "upwards", "upwards from a folder", "the download itself"])
def test_bundle_path_outside_the_download_is_refused_and_left_alone(root: Path, form: str) -> None:
    own = bundle(root / "home", "v18")  # the registered bundle's twin: even its digest is right
    paths = {
        "absolute": str(own),
        "upwards": f"../../../..{own}",
        "upwards from a folder": f"artifacts/../../../../..{own}",
        "the download itself": "..",
    }
    point_bundle_to(root, paths[form])
    assert refusal(root) == "model_path"
    assert sorted(path.name for path in own.iterdir()) == ["manifest.json", "weights.safetensors"]


def test_links_in_a_downloaded_bundle_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = root / "secret"
    secret.write_text("weights")
    download = mlflow.artifacts.download_artifacts

    def download_with_link(uri: str, dst_path: str) -> str:
        model = download(uri, dst_path=dst_path)
        (file,) = Path(model).rglob("weights.safetensors")
        file.unlink()
        file.symlink_to(secret)
        return str(model)

    publish(candidates(root, v18=0.9), root=root, **GATE)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download_with_link)
    assert refusal(root) == "model_path"


def test_model_whose_source_is_a_local_folder_is_refused(root: Path) -> None:
    model = point_bundle_to(root, "artifacts/v18")
    outside = model.rename(root / "elsewhere")
    client = mlflow.MlflowClient()
    digest = bundle_digest(root / "models" / "v18")
    client.create_model_version("vcfbert", outside.as_uri(), tags={BUNDLE_DIGEST_TAG: digest})
    assert refusal(root, "models:/vcfbert/2") == "model_path"
    assert (outside / "MLmodel").is_file()


def test_entry_without_a_bundle_is_refused(root: Path) -> None:
    model = point_bundle_to(root, "artifacts/v18")
    (model / "MLmodel").write_text("flavors: {python_function: {loader_module: x}}\n")
    assert refusal(root) == "model_path"


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
def test_damaged_download_does_not_reach_the_cache(root: Path, name: str) -> None:
    model = point_bundle_to(root, "artifacts/v18")
    (model / "artifacts" / "v18" / name).write_text("{}")
    assert refusal(root) == "bundle_hash"


def test_cache_that_cannot_be_written_is_named(root: Path) -> None:
    publish(candidates(root, v18=0.9), root=root, **GATE)
    (root / "file").write_text("")
    with pytest.raises(InputError) as caught:
        resolve("models:/vcfbert/1", root=root, cache=root / "file")
    assert caught.value.code == "output_not_writable"


def test_signature_made_after_registration_reaches_the_cache(root: Path) -> None:
    folder = bundle(root, "v18")
    registered = {"variant": "v18", "value": 0.9, "root": root, **GATE}
    register(folder, **registered)
    cached = resolve("models:/vcfbert@champion", root=root, cache=root / "cache")
    assert not (cached / SIGNATURE).exists()
    (folder / SIGNATURE).write_bytes(b"made later")
    register(folder, **registered)  # the same version, now with its signature
    for cache in ("cache", "another cache"):
        again = resolve("models:/vcfbert@champion", root=root, cache=root / cache)
        assert (again / SIGNATURE).read_bytes() == b"made later"
