from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.tiny import TINY_MODEL, random_panel
from vcfbert.errors import ArtifactError
from vcfbert.genotypes.panel import Panel
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.model.variants import create
from vcfbert.retrieval.context import reference_features
from vcfbert.retrieval.embedded import embed_references, open_indexes

PANEL = random_panel(10, 30, seed=1, validation=(2, 5))


def reference_of(panel: Panel) -> ReferenceSubset:
    return ReferenceSubset(panel, panel.training_haplotypes)


def test_table_and_index_equal_untrained_model(tmp_path: Path) -> None:
    reference = reference_of(PANEL)
    assert embed_references([reference], TINY_MODEL, tmp_path / "embedded") > 0
    embedding = create("v18", TINY_MODEL).embedding
    features = reference_features(reference, torch.device("cpu"))
    stored = load_file(tmp_path / "embedded/00/table.safetensors")
    assert torch.equal(stored["table"], embedding.table(features).half())
    torch.testing.assert_close(stored["weights"], embedding.allele_weights(features))
    (index,) = open_indexes(tmp_path / "embedded", [reference])
    queries = torch.from_numpy(reference.alleles(slice(None))).float()
    distances, rows = index.search(torch.arange(30), queries, 1)
    assert rows[:, 0].tolist() == list(range(16))
    torch.testing.assert_close(distances, torch.zeros(16, 1), atol=1e-5, rtol=0)


def test_open_indexes_of_other_panel_or_split_raises(tmp_path: Path) -> None:
    embed_references([reference_of(PANEL)], TINY_MODEL, tmp_path / "embedded")
    other_panel = random_panel(10, 30, seed=2, validation=(2, 5))
    other_split = dataclasses.replace(PANEL, validation=(2, 6))
    for panel, code in ((other_panel, "embedding_panel"), (other_split, "embedding_split")):
        with pytest.raises(ArtifactError) as caught:
            open_indexes(tmp_path / "embedded", [reference_of(panel)])
        assert caught.value.code == code
