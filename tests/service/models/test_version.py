"""Model versions: of the registry, and of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.models.version import FolderVersion, ModelVersion, stored_version, version_name
from vcfbert.errors import InputError
from vcfbert.tracking.registry import RegisteredVersion

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "version", [RegisteredVersion("vcfbert", 3, DIGEST), FolderVersion(Path("/bundles/a"), DIGEST)]
)
def test_stored_version_equals_the_version_that_was_stored(version: ModelVersion) -> None:
    assert stored_version(version.reference, version.bundle_digest) == version


def test_name_is_the_number_or_the_start_of_the_digest() -> None:
    assert version_name(RegisteredVersion("vcfbert", 3, DIGEST)) == "3"
    assert version_name(FolderVersion(Path("a"), DIGEST)) == "0123456789ab"


def test_reference_of_a_relative_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FolderVersion(Path("a"), DIGEST).reference == str(tmp_path.resolve() / "a")


def test_stored_reference_that_names_no_model_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        stored_version("models:/", DIGEST)
    assert caught.value.code == "model_reference"
