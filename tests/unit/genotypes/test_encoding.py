from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny import panel_from_alleles, random_panel
from vcfbert.config import EncodeConfig
from vcfbert.errors import ArtifactError
from vcfbert.genotypes import encoding
from vcfbert.genotypes.encoding import distinct_rows, encode, open_encodings, save_encodings

CONFIG = EncodeConfig(window=16, flank=2, span_cm=0.03)


def test_distinct_rows_are_in_order_of_first_appearance() -> None:
    rows = distinct_rows(np.array([[1, 0], [0, 0], [1, 0], [0, 1], [0, 0]], dtype=np.uint8))
    assert rows.patterns.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert rows.number.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("n_sites", [7, 8, 9, 50])
def test_encoding_rows_restore_the_alleles(n_sites: int) -> None:
    panel = random_panel(10, n_sites, seed=n_sites)
    founders = panel.alleles(slice(None))
    panel = panel_from_alleles(founders[np.random.default_rng(0).integers(0, 6, size=20)])
    encoding = encode(panel, CONFIG)
    chosen = np.array([3, 0, 19, 4])
    for window in encoding.windows:
        rows = encoding.rows(window, chosen)
        assert np.array_equal(rows.patterns[rows.number], panel.alleles(window.sites, chosen))
        assert len(rows.patterns) == encoding.n_distinct[window.index] <= 6


def test_saved_encoding_opens_unchanged(tmp_path: Path) -> None:
    panel = random_panel(10, 50, seed=1)
    encoding = encode(panel, CONFIG)
    save_encodings([encoding], tmp_path / "encoded")
    (opened,) = open_encodings(tmp_path / "encoded", [panel])
    assert (opened.config, opened.windows) == (encoding.config, encoding.windows)
    for name in ("packed", "offset", "number"):
        assert np.array_equal(getattr(opened, name), getattr(encoding, name))


def test_open_encodings_of_another_panel_is_refused(tmp_path: Path) -> None:
    save_encodings([encode(random_panel(10, 50, seed=1), CONFIG)], tmp_path / "encoded")
    with pytest.raises(ArtifactError, match="another panel") as caught:
        open_encodings(tmp_path / "encoded", [random_panel(10, 50, seed=2)])
    assert caught.value.code == "encoding_panel"


def test_open_encodings_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    panel = random_panel(10, 50, seed=1)
    save_encodings([encode(panel, CONFIG)], tmp_path / "encoded")
    (tmp_path / "encoded/00/rows.npy").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"rows\.npy") as caught:
        open_encodings(tmp_path / "encoded", [panel])
    assert caught.value.code == "encoding_hash"


def test_distinct_rows_with_equal_hashes_stay_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    alleles = np.random.default_rng(1).integers(2, size=(40, 5), dtype=np.uint8)
    expected = distinct_rows(alleles)
    monkeypatch.setattr(encoding, "_hashed", lambda packed: np.zeros(len(packed), dtype=np.uint64))
    found = distinct_rows(alleles)
    np.testing.assert_array_equal(found.patterns, expected.patterns)
    np.testing.assert_array_equal(found.number, expected.number)


@pytest.mark.parametrize("width", [1, 8, 63, 64, 65, 200])
def test_distinct_rows_numbers_point_to_equal_patterns(width: int) -> None:
    alleles = np.random.default_rng(width).integers(2, size=(30, width), dtype=np.uint8)
    alleles = alleles[np.random.default_rng(2).integers(30, size=90)]
    rows = distinct_rows(alleles)
    np.testing.assert_array_equal(rows.patterns[rows.number], alleles)
    assert len(np.unique(rows.patterns, axis=0)) == len(rows.patterns)
