from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from tests.helpers.tiny import random_panel
from vcfbert.errors import ArtifactError, MissingExtraError
from vcfbert.genotypes.reference_subset import ReferenceSubset
from vcfbert.retrieval.faiss_index import FaissKeyIndex
from vcfbert.retrieval.torch_index import TorchKeyIndex

PANEL = random_panel(300, 9, seed=1)  # more rows than are added at a time
REFERENCE = ReferenceSubset(PANEL, np.arange(600))


def test_codes_decode_to_the_keys() -> None:
    weights = torch.rand(9, generator=torch.Generator().manual_seed(0)) * 5
    index = FaissKeyIndex.build(REFERENCE, weights).index
    keys = index.sa_decode(faiss.vector_to_array(index.codes).reshape(600, -1))
    expected = REFERENCE.alleles(slice(None)) * weights.sqrt().numpy()
    np.testing.assert_allclose(keys, expected, atol=1e-6)
    # FAISS's own search over all sites sees the same distances.
    distances, _ = index.search(expected[:3].astype(np.float32), 1)
    np.testing.assert_allclose(distances, 0, atol=1e-5)


def test_index_takes_half_a_byte_a_key() -> None:
    assert FaissKeyIndex.build(REFERENCE, torch.ones(9)).index.code_size == 5


@pytest.mark.parametrize(("n_rows", "n_sites"), [(600, 10), (599, 9)])
def test_load_of_other_dimension_or_count_raises(tmp_path: Path, n_rows: int, n_sites: int) -> None:
    FaissKeyIndex.build(REFERENCE, torch.ones(9)).save(tmp_path / "index")
    with pytest.raises(ArtifactError) as caught:
        FaissKeyIndex.load(tmp_path / "index", n_rows=n_rows, n_sites=n_sites)
    assert caught.value.code == "index_mismatch"
    assert str(n_sites) in str(caught.value)


def test_load_of_other_metric_or_type_raises(tmp_path: Path) -> None:
    inner = faiss.IndexScalarQuantizer(9, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT)
    flat = faiss.IndexFlatL2(9)
    for index in (inner, flat):
        index.train(np.eye(9, dtype=np.float32))
        index.add(np.eye(9, dtype=np.float32))
        faiss.write_index(index, str(tmp_path / "index"))
        with pytest.raises(ArtifactError) as caught:
            FaissKeyIndex.load(tmp_path / "index", n_rows=9, n_sites=9)
        assert caught.value.code == "index_mismatch"


@pytest.mark.parametrize("content", [b"", b"no index at all", None])
def test_load_of_damaged_file_raises(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "index"
    FaissKeyIndex.build(REFERENCE, torch.ones(9)).save(path)
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(ArtifactError) as caught:
        FaissKeyIndex.load(path, n_rows=600, n_sites=9)
    assert caught.value.code == "index_damaged"


def test_missing_faiss_error_names_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="pip install faiss-cpu"):
        FaissKeyIndex.build(REFERENCE, torch.ones(9))
    with pytest.raises(MissingExtraError, match="pip install faiss-cpu"):
        TorchKeyIndex(REFERENCE, torch.ones(9)).save(tmp_path / "index")
