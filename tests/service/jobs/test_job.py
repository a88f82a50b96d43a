"""Jobs as values."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.jobs.job import PinnedModel
from service.models.version import FolderVersion, ModelVersion
from vcfbert.tracking.registry import RegisteredVersion

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("version", "reference", "name"),
    [
        (RegisteredVersion("vcfbert", 3, DIGEST), "models:/vcfbert/3", "3"),
        (FolderVersion(Path("/bundles/a"), DIGEST), "/bundles/a", DIGEST[:12]),
    ],
)
def test_pinned_model_is_stored_with_the_keys_of_format_1(version: ModelVersion, reference: str, name: str) -> None:
    pinned = PinnedModel("default", "v19", version)
    stored = {"alias": "default", "reference": reference, "version": name, "variant": "v19", "digest": DIGEST}
    assert list(pinned.as_json().items()) == list(stored.items())
    assert PinnedModel.from_json(stored) == pinned
